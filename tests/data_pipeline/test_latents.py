"""Latents beside the shards: of the right picture, mirrored or not, and never of another version."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.latents import Latents, write_latents
from data_pipeline.measures import resize_antialiased
from data_pipeline.training_set import BadSample, open_training_set
from tests.data_pipeline.phases import World, tree

SIDE = 32


def encode(pictures: np.ndarray) -> np.ndarray:
    """Stands for a VAE: (B, 32, 32, 3) -> (B, 4, 4, 4), means of 8 x 8 px and of all channels."""
    means = pictures.reshape(len(pictures), 4, 8, 4, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 127.5 - 1
    return np.concatenate([means, means.mean(axis=1, keepdims=True)], axis=1)


def picture(dataset: Path, sample: int) -> np.ndarray:
    data = open_training_set([str(dataset)]).read(sample, ["jpg"])["jpg"]
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return resize_antialiased(np.ascontiguousarray(bgr[..., ::-1]), SIDE)


def test_rows_are_those_of_the_pictures_and_their_mirror_images(finished: World) -> None:
    out = Path(finished.data.output)
    assert write_latents([str(out)], "vae-1", encode, size=SIDE, batch_size=6) == 24
    found = open_training_set([str(out)])
    latents = Latents(found, "vae-1", SIDE)
    assert latents.shape == (4, 4, 4)
    for sample in range(len(found)):
        expected = encode(np.stack([picture(out, sample), picture(out, sample)[:, ::-1]])).astype(np.float16)
        for flipped in (False, True):
            assert latents.read(sample, flipped).tobytes() == expected[int(flipped)].tobytes()
        assert not np.array_equal(expected[0], expected[1])
    file = np.load(out / "latents/vae-1/train-000001.npy")
    assert file.shape == (8, 2, 4, 4, 4) and file.dtype == np.float16
    assert np.array_equal(file[3, 1], latents.read(11, True))


def test_what_is_there_stays(finished: World) -> None:
    out = str(finished.data.output)
    write_latents([out], "vae", encode, size=SIDE)
    before = tree(Path(out))

    def never(pictures: np.ndarray) -> np.ndarray:
        raise AssertionError("called")

    assert write_latents([out], "vae", never, size=SIDE) == 0
    assert tree(Path(out)) == before
    # one that was interrupted before its marker, one that is cut off: only these are written again, to the same bytes
    (Path(out) / "latents/vae/train-000000.json").unlink()
    cut = Path(out) / "latents/vae/train-000002.npy"
    cut.write_bytes(cut.read_bytes()[:100])
    assert write_latents([out], "vae", encode, size=SIDE) == 16
    assert {name: entry[2] for name, entry in tree(Path(out)).items()} == {
        name: entry[2] for name, entry in before.items()
    }


def test_encoders_do_not_mix(finished: World) -> None:
    out = str(finished.data.output)
    write_latents([out], "one", encode, size=SIDE)
    write_latents([out], "two", lambda pictures: -encode(pictures), size=SIDE)
    found = open_training_set([out])
    one, two = (Latents(found, name, SIDE).read(5, False) for name in ("one", "two"))
    assert np.array_equal(one, -two)


def test_missing_and_foreign_latents_are_refused_all_at_once(finished: World) -> None:
    out = str(finished.data.output)
    found = open_training_set([out])
    with pytest.raises(
        ValueError, match=r"(?s)train-000000\.npy.*train-000001\.npy.*train-000002\.npy.*write_latents"
    ):
        Latents(found, "vae", SIDE)
    write_latents([out], "vae", encode, size=SIDE)
    with pytest.raises(ValueError, match="is of pictures of 32 px, not of 64 px"):
        Latents(found, "vae", 64)
    marker = finished.out.read_json("latents/vae/train-000001.json")
    finished.out.write_json("latents/vae/train-000001.json", {**marker, "of": "0" * 64})
    with pytest.raises(ValueError, match=r"train-000001\.npy belongs to another version of the shard"):
        Latents(found, "vae", SIDE)
    finished.out.write_json("latents/vae/train-000001.json", {**marker, "shape": [4, 2, 8]})
    with pytest.raises(ValueError, match="several shapes"):
        Latents(found, "vae", SIDE)


def test_changed_bytes_are_noticed_when_they_are_read(finished: World) -> None:
    out = Path(finished.data.output)
    write_latents([str(out)], "vae", encode, size=SIDE)
    file = out / "latents/vae/train-000000.npy"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1  # the mirrored row of the last sample
    file.write_bytes(data)
    latents = Latents(open_training_set([str(out)]), "vae", SIDE)
    assert latents.read(7, False).shape == (4, 4, 4)
    with pytest.raises(BadSample, match="latents changed"):
        latents.read(7, True)


def test_what_an_encoder_must_not_make(finished: World) -> None:
    out = [str(finished.data.output)]
    with pytest.raises(ValueError, match="not finite in half precision"):
        write_latents(out, "vae", lambda pictures: encode(pictures) * 1e6, size=SIDE)
    with pytest.raises(ValueError, match="one row for each"):
        write_latents(out, "vae", lambda pictures: encode(pictures)[1:], size=SIDE)
    for name in ("", "..", "a/b", "a b"):
        with pytest.raises(ValueError, match="cannot name latents"):
            write_latents(out, name, encode, size=SIDE)
    assert not finished.out.list("latents/vae")


def test_latents_of_other_folders(made: Path, tmp_path: Path) -> None:
    """A dataset that must not be written to keeps its latents and indexes elsewhere."""
    before = tree(made)
    cache = str(tmp_path / "cache")
    write_latents([str(made)], "vae", encode, size=SIDE, cache=cache)
    found = open_training_set([str(made)], cache=cache)
    assert Latents(found, "vae", SIDE).read(0, False).shape == (4, 4, 4)
    assert tree(made) == before
