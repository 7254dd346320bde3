"""The training stream: what a sample is, and that the sequence depends on the seed alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from data_pipeline.latents import write_latents
from data_pipeline.measures import resize_antialiased
from data_pipeline.stream import StreamConfig, collate
from tests.data_pipeline.phases import world
from tests.data_pipeline.streams import as_bytes, copy_of, hash_of, plain, stream, take
from tests.data_pipeline.test_latents import encode
from tests.tiny_world import photo


@pytest.fixture(scope="module")
def mixed(photos: Path, pack: Path, parser: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 4 people with 6 photos each, and of 5 photos of unknown people."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "crowd").mkdir()
    for person in range(5):
        photo(40 + person, 0).save(root / f"crowd/{person}.jpg", quality=92)
    sources = [{"path": str(photos), "name": "tiny"}, {"path": str(root / "crowd"), "layout": "flat"}]
    assert world("", pack, root / "out", parser, sources=sources).build()["counts"]["accepted"] == 29
    return root / "out"


def members(dataset: Path, key: str) -> dict[str, bytes]:
    for path in sorted((dataset / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            found = {}
            for info in tar:
                content = tar.extractfile(info)
                if info.name.startswith(f"{key}.") and content is not None:
                    found[info.name.partition(".")[2]] = content.read()
            if found:
                return found
    raise KeyError(key)


def decoded(data: bytes, flag: int) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), flag)


# What a sample is


def test_a_plain_sample_is_what_the_shard_holds(mixed: Path) -> None:
    source = stream(mixed, augment=plain())
    for _ in range(40):
        sample = next(source)
        data = members(mixed, sample.key)
        description = json.loads(data["json"])
        told = (sample.source, sample.identity, sample.person_type)
        assert told == tuple(description[name] for name in ("source", "identity", "person_type"))
        assert (sample.identity is None) == (sample.source == "crowd")
        image = decoded(data["jpg"], cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(sample.image, resize_antialiased(np.ascontiguousarray(image), 32))
        mask = resize_antialiased(decoded(data["mask.png"], cv2.IMREAD_GRAYSCALE), 32) >= 128
        np.testing.assert_array_equal(sample.person_mask, mask.astype(np.uint8))
        assert sample.has_person_mask and sample.valid_mask.all() and not sample.flipped and sample.latent is None
        stored = np.load(io.BytesIO(data["id.npy"]))
        assert stored.dtype == np.float16 and sample.id_embedding.dtype == np.float32
        np.testing.assert_allclose(sample.id_embedding, stored.astype(np.float32), atol=2e-4)
        assert np.linalg.norm(sample.id_embedding) == pytest.approx(1, abs=1e-6)


def test_an_augmented_sample_moves_its_masks_with_the_picture(mixed: Path) -> None:
    flat = {sample.key: sample for sample in islice(stream(mixed, augment=plain()), 200)}
    source, flips = stream(mixed, augment={"size": 32, "scale": (0.5, 1.0)}), 0
    for _ in range(60):
        sample = next(source)
        rows, columns = np.flatnonzero(sample.valid_mask.any(1)), np.flatnonzero(sample.valid_mask.any(0))
        assert len(rows) == len(columns) and sample.valid_mask.sum() == len(rows) ** 2
        assert not (sample.person_mask & (1 - sample.valid_mask)).any()
        assert not sample.image[sample.valid_mask == 0].any()
        # back to full size, unflipped: the plain sample, up to what resizing loses
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        back = cv2.resize(sample.image[box], (32, 32), interpolation=cv2.INTER_LINEAR).astype(float)
        plain_image = flat[sample.key].image.astype(float)
        same, mirrored = (np.abs(back - other).mean() for other in (plain_image, plain_image[:, ::-1]))
        assert (mirrored < same) == sample.flipped and min(same, mirrored) < 8
        flips += sample.flipped
        np.testing.assert_array_equal(sample.id_embedding, flat[sample.key].id_embedding)
    assert 15 < flips < 45


def test_without_a_mask_the_person_is_everywhere_and_said_so(photos: Path, pack: Path, tmp_path: Path) -> None:
    world(photos, pack, tmp_path / "out").build()
    sample = next(stream(tmp_path / "out", augment={"size": 32, "scale": (0.6, 0.7)}))
    assert not sample.has_person_mask
    np.testing.assert_array_equal(sample.person_mask, sample.valid_mask)
    assert 0 < sample.valid_mask.mean() < 0.6


def test_latents_are_those_of_the_picture_as_it_is_shown(mixed: Path) -> None:
    write_latents([str(mixed)], "vae", encode, size=32)
    both = stream(mixed, latents="vae", augment={"size": 32, "scale": None})
    only = stream(mixed, latents="vae", images=False, augment={"size": 32, "scale": None})
    flips = set()
    for _ in range(30):
        sample, bare = next(both), next(only)
        assert sample.latent.tobytes() == encode(sample.image[None]).astype(np.float16)[0].tobytes()
        assert bare.image is None and (bare.key, bare.flipped) == (sample.key, sample.flipped)
        assert bare.latent.tobytes() == sample.latent.tobytes()
        assert bare.person_mask.tobytes() == sample.person_mask.tobytes()
        flips.add(sample.flipped)
    assert flips == {False, True}
    batch = collate([next(only) for _ in range(3)])
    assert "image" not in batch and tuple(batch["latent"].shape) == (3, 4, 4, 4)


def test_a_batch(mixed: Path) -> None:
    import torch

    samples = list(islice(stream(mixed), 5))
    batch = collate(samples)
    assert {
        name: (value.dtype, tuple(value.shape)) for name, value in batch.items() if isinstance(value, torch.Tensor)
    } == {
        "image": (torch.uint8, (5, 32, 32, 3)),
        "person_mask": (torch.uint8, (5, 32, 32)),
        "valid_mask": (torch.uint8, (5, 32, 32)),
        "id_embedding": (torch.float32, (5, 192)),
        "has_person_mask": (torch.bool, (5,)),
        "flipped": (torch.bool, (5,)),
    }
    assert set(batch) - {"image", "person_mask", "valid_mask", "id_embedding", "has_person_mask", "flipped"} == {
        "key",
        "source",
        "identity",
        "person_type",
    }
    for index, sample in enumerate(samples):
        for name, value in vars(sample).items():
            if isinstance(value, np.ndarray):
                assert batch[name][index].numpy().tobytes() == value.tobytes()
            elif name != "latent":
                assert batch[name][index] == value
    if torch.cuda.is_available():
        assert all(
            value.is_pinned() for name in ("image", "flipped") for value in [collate(samples, pin_memory=True)[name]]
        )


# The sequence


def test_equal_seeds_give_equal_samples(mixed: Path, tmp_path: Path) -> None:
    first = take(stream(mixed), 60)
    assert take(stream(mixed), 60) == first
    assert take(stream(copy_of(mixed, tmp_path / "moved")), 60) == first
    assert take(stream(mixed, seed=8), 60) != first
    assert len({sample[0] for sample in first}) <= 29 < 50 < len(set(first)), "photos come again, looking otherwise"


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (2, 3), (5, 40)])
def test_how_it_is_read_changes_nothing(mixed: Path, threads: int, ahead: int) -> None:
    with stream(mixed, threads=threads, ahead=ahead) as source:
        assert take(source, 50) == take(stream(mixed), 50)


def test_another_process_gives_the_same_samples(mixed: Path, project: Path) -> None:
    program = "import sys; from tests.data_pipeline.streams import *; print(hash_of(take(stream(sys.argv[1]), 40)))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(mixed)],
        cwd=project,
        env={**os.environ, "PYTHONHASHSEED": "123"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == hash_of(take(stream(mixed), 40)), done.stderr


def test_shares(mixed: Path) -> None:
    """Configuration and draws end to end; the distributions themselves are tested with the sampler."""
    source = stream(mixed, images=True, sampling={"flat_share": 0.5, "balance": "identities"})
    of = Counter(source.training_set.identities[source.sampler.draw(n)].as_py() for n in range(4000))
    assert of[None] / 4000 == pytest.approx(0.5, abs=0.03)
    for person in range(4):
        assert of[f"tiny/person-{person:02d}"] / 4000 == pytest.approx(0.125, abs=0.02)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_together_see_what_one_would_have_seen(mixed: Path, world_size: int) -> None:
    alone = take(stream(mixed), 30)
    ranks = [stream(mixed, rank=rank, world_size=world_size) for rank in range(world_size)]
    together = [as_bytes(next(rank)) for _ in range(30 // world_size) for rank in ranks]
    assert together == alone
    assert {json.dumps(rank.state()) for rank in ranks} == {json.dumps(ranks[0].state())}
    assert ranks[0].position == 30


def test_a_draw_can_be_looked_at_without_moving(mixed: Path) -> None:
    source = stream(mixed, threads=2)
    assert as_bytes(source.draw(11)) == take(stream(mixed), 12)[11]
    assert source.position == 0 and take(source, 5) == take(stream(mixed), 5)
    source.close()


# Resuming


def test_resuming_at_every_position(mixed: Path) -> None:
    expected = take(stream(mixed), 48)
    source = stream(mixed)
    for position in range(40):
        state = json.loads(json.dumps(source.state()))
        again = stream(mixed)
        again.load_state(state)
        assert take(again, 8) == expected[position : position + 8]
        next(source)
    assert len(json.dumps(source.state())) < 500


def test_resuming_with_other_threads_of_both_ranks(mixed: Path) -> None:
    """What was prepared ahead is not lost, and counts as not taken."""
    expected = take(stream(mixed), 60)
    for rank in range(2):
        with stream(mixed, rank=rank, world_size=2, threads=3, ahead=16) as source:
            for position in (0, 1, 7):
                while source.position < 2 * position:
                    next(source)
                state = source.state()
                assert state["position"] == 2 * position
                with stream(mixed, rank=rank, world_size=2, threads=1, ahead=2) as again:
                    again.load_state(state)
                    assert take(again, 5) == expected[rank::2][position : position + 5]


def test_a_running_stream_goes_back(mixed: Path) -> None:
    with stream(mixed, threads=2, ahead=8) as source:
        state = source.state()
        first = take(source, 10)
        source.load_state(state)
        assert take(source, 10) == first


def test_going_on_with_another_number_of_ranks(mixed: Path) -> None:
    expected = take(stream(mixed), 36)
    two = [stream(mixed, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(9):
        for source in two:
            next(source)
    three = [stream(mixed, rank=rank, world_size=3) for rank in range(3)]
    for source in three:
        source.load_state(two[0].state())
    assert [as_bytes(next(source)) for _ in range(6) for source in three] == expected[18:]


def test_states_of_other_streams_are_refused(mixed: Path, made: Path, tmp_path: Path) -> None:
    write_latents([str(mixed)], "vae", encode, size=32)
    state = stream(mixed).state()
    for expected, other in (
        ("seed", stream(mixed, seed=9)),
        ("samples", stream(made, cache=str(tmp_path))),
        ("sampling", stream(mixed, sampling={"cap": 3})),
        ("augment", stream(mixed, augment={"size": 40})),
        ("augment, latents", stream(mixed, latents="vae", augment={"size": 32, "scale": None})),
    ):
        with pytest.raises(ValueError, match=f"stream differs in: {expected};"):
            other.load_state(state)
    for broken in ({}, {"format": "adaface-stream/0"}, {"format": "adaface-stream/1"}):
        with pytest.raises(ValueError, match=r"not the state of a stream|stream differs in"):
            stream(mixed).load_state(broken)
    source = stream(mixed)
    expected = take(stream(mixed), 3)
    assert take(source, 1) == expected[:1]
    with pytest.raises(ValueError, match="is damaged: position -1"):
        source.load_state({**state, "position": -1})
    assert take(source, 2) == expected[1:], "a refused state moves nothing"
    moved = stream(copy_of(mixed, tmp_path / "moved"), threads=2, ahead=3, on_bad="skip")
    moved.load_state(state)  # none of these changes a sample


def test_settings_that_contradict_each_other() -> None:
    for settings, message in (
        ({"latents": "vae"}, "latents are of whole pictures"),
        ({"images": False}, "neither pictures nor latents"),
        ({"datasets": []}, "at least 1 item"),
        ({"latents": "../vae", "augment": {"scale": None}}, "pattern"),
        ({"shuffle": 3}, "Extra inputs"),
    ):
        with pytest.raises(ValidationError, match=message):
            StreamConfig(**{"datasets": ["out"], **settings})


def test_ranks_and_seeds_that_are_none(mixed: Path) -> None:
    for wrong in ({"rank": 2, "world_size": 2}, {"rank": -1}, {"world_size": 0}, {"seed": -1}, {"seed": 2**64}):
        with pytest.raises(ValueError, match=r"rank|seed"):
            stream(mixed, **wrong)


def test_blocks_deal_whole_batches_to_ranks(mixed: Path) -> None:
    """With the batch for a block, ranks in turn have the batches of one rank with as many samples as all of them."""
    one = take(stream(mixed), 24)
    ranks = [stream(mixed, rank=rank, world_size=2, block=4) for rank in (0, 1)]
    first, second = (take(each, 12) for each in ranks)
    assert [*first[:4], *second[:4], *first[4:8], *second[4:8], *first[8:], *second[8:]] == one


def test_resuming_within_a_block(mixed: Path) -> None:
    expected = take(stream(mixed, rank=1, world_size=2, block=4), 14)
    for taken in range(9):
        before = stream(mixed, rank=1, world_size=2, block=4)
        take(before, taken)
        state = json.loads(json.dumps(before.state()))
        again = stream(mixed, rank=1, world_size=2, block=4)
        again.load_state(state)
        assert take(again, 5) == expected[taken : taken + 5]
    other = stream(mixed, rank=0, world_size=3, block=4)
    before = stream(mixed, rank=1, world_size=2, block=4)
    take(before, 3)
    with pytest.raises(ValueError, match="within a block of 4 draws of each of 2 ranks"):
        other.load_state(before.state())


def test_no_block_without_a_draw(mixed: Path) -> None:
    with pytest.raises(ValueError, match="1 draw or more, not 0"):
        stream(mixed, block=0)
