"""Damaged datasets: a clear stop, or other samples in place of the lost ones, counted and always the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.latents import write_latents
from data_pipeline.storage import Storage
from data_pipeline.training_set import BadSample
from tests.data_pipeline.phases import World
from tests.data_pipeline.streams import as_bytes, keys_of_shard, spoil, stream, take
from tests.data_pipeline.test_latents import encode

DRAWS = 80


@pytest.fixture
def out(finished: World) -> Path:
    """24 samples in 3 shards of one's own, with their index."""
    stream(finished.data.output)
    return Path(finished.data.output)


def lose(out: Path, damage: str) -> set[str]:
    """Do damage; returns the keys that are lost."""
    lost = keys_of_shard(out, 1)
    tar = out / "shards/train-000001.tar"
    if damage == "missing":
        tar.unlink()
    elif damage == "truncated":
        tar.write_bytes(tar.read_bytes()[:-700])
    elif damage == "changed, no index":
        tar.write_bytes(tar.read_bytes()[:-1] + b"x")
        (out / "index/train-000001.parquet").unlink()
    else:
        lost = set(sorted(lost)[:3])
        for key in lost:
            spoil(out, key, damage)
    return lost


DAMAGES = ["missing", "truncated", "changed, no index", "jpg", "mask.png", "id.npy"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_skipping(out: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = take(stream(out), DRAWS)
    drawn = [sample[0] for sample in whole]
    lost = lose(out, damage)
    assert lost & set(drawn)
    source = stream(out, on_bad="skip")
    found = take(source, DRAWS)
    # whoever is sound comes as if nothing had happened; others come in place of the lost
    for number in range(DRAWS):
        if drawn[number] not in lost:
            assert found[number] == whole[number]
        assert found[number][0] not in lost
    kind = "bytes changed" if damage in ("jpg", "mask.png", "id.npy") else "shard lost"
    assert source.skipped[kind] == source.skipped.total() >= sum(key in lost for key in drawn) > 0
    logged = [line for line in caplog.messages if line.startswith("skipped: ")]
    assert len(logged) == 1 and "train-000001.tar" in logged[0] and kind in logged[0]


@pytest.mark.parametrize("damage", ["missing", "jpg"])
def test_skipping_is_the_same_every_time(out: Path, damage: str) -> None:
    lose(out, damage)
    alone = stream(out, on_bad="skip")
    expected = take(alone, DRAWS)
    with stream(out, on_bad="skip", threads=4, ahead=20) as threaded:
        assert take(threaded, 30) == expected[:30]
        state = json.loads(json.dumps(threaded.state()))
    again = stream(out, on_bad="skip")
    again.load_state(state)
    assert take(again, DRAWS - 30) == expected[30:]
    assert again.skipped == alone.skipped, "counts go on, and what was only prepared ahead is not in them"
    ranks = [stream(out, on_bad="skip", rank=rank, world_size=2) for rank in range(2)]
    assert [as_bytes(next(rank)) for _ in range(DRAWS // 2) for rank in ranks] == expected
    assert ranks[0].skipped + ranks[1].skipped == alone.skipped


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed, no index"])
def test_a_lost_shard_stops_the_start(out: Path, damage: str) -> None:
    lose(out, damage)
    with pytest.raises(ValueError, match=r"train-000001\.tar.*\n.*on_bad: skip"):
        stream(out)


@pytest.mark.parametrize("threads", [0, 3])
def test_a_bad_sample_stops_the_run_where_it_is_drawn(out: Path, threads: int) -> None:
    before = take(stream(out), DRAWS)
    lost = lose(out, "jpg")
    first = next(number for number, sample in enumerate(before) if sample[0] in lost)
    with stream(out, threads=threads, ahead=12) as source:
        assert take(source, first) == before[:first]
        for _ in range(2):
            with pytest.raises(BadSample, match=rf"sample {before[first][0]} of .*train-000001\.tar: bytes changed"):
                next(source)
        assert source.position == first
        state = source.state()
    skipping = stream(out, on_bad="skip")
    skipping.load_state(state)  # how such a run goes on
    assert next(skipping).key not in lost


def test_a_dataset_of_nothing_but_damage(out: Path) -> None:
    for tar in (out / "shards").glob("*.tar"):
        tar.unlink()
    with pytest.raises(ValueError, match=r"100 samples in a row cannot be used.*verify-dataset"):
        next(stream(out, on_bad="skip"))


def test_damaged_latents(out: Path) -> None:
    write_latents([str(out)], "vae", encode, size=32)
    settings = {"latents": "vae", "images": False, "augment": {"size": 32, "scale": None}}
    expected = take(stream(out, **settings), 200)
    file = out / "latents/vae/train-000001.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 0x40  # the last sample of the shard, mirrored
    file.write_bytes(data)
    source = stream(out, on_bad="skip", **settings)
    found = take(source, 200)
    changed = [number for number in range(200) if found[number] != expected[number]]
    assert {expected[number][0] for number in changed} == {source.training_set.keys[15].as_py()}
    assert len(changed) == source.skipped["latents changed"] == source.skipped.total() > 0
    file.unlink()
    with pytest.raises(ValueError, match=r"train-000001\.npy is missing"):
        stream(out, on_bad="skip", **settings)


def test_lost_shards_need_no_latents(out: Path) -> None:
    write_latents([str(out)], "vae", encode, size=32)
    settings = {"latents": "vae", "augment": {"size": 32, "scale": None}}
    lost = lose(out, "missing")
    for ending in ("npy", "json"):
        (out / f"latents/vae/train-000001.{ending}").unlink()
    source = stream(out, on_bad="skip", **settings)
    assert not {next(source).key for _ in range(40)} & lost


def test_a_storage_that_fails_is_not_skipped(out: Path) -> None:
    expected = take(stream(out), 60)
    source = stream(out, on_bad="skip")
    tar = out / "shards/train-000001.tar"
    tar.rename(out / "tar")
    tar.mkdir()
    taken: list[tuple] = []
    with pytest.raises(OSError):
        while len(taken) < 60:
            taken += take(source, 1)
    tar.rmdir()
    (out / "tar").rename(tar)
    assert taken + take(source, 60 - len(taken)) == expected, "asking again goes on"
    assert not source.skipped


def test_an_object_store_gives_the_same_samples(out: Path, s3: Callable[[], str]) -> None:
    bucket = Storage(f"{s3()}/faces")
    for path in (*(out / "shards").iterdir(), out / "dataset.json"):
        bucket.write_bytes(path.relative_to(out).as_posix(), path.read_bytes())
    settings = {"latents": "vae", "augment": {"size": 32, "scale": None}}
    write_latents([str(out)], "vae", encode, size=32)
    assert write_latents([bucket.uri], "vae", encode, size=32) == 24
    with stream(bucket.uri, threads=4, ahead=16, **settings) as source:
        assert take(source, 20) == take(stream(out, **settings), 20)
        state = source.state()
    local = stream(out, **settings)
    local.load_state(state)  # a run may move
    assert local.position == 20
    bucket.delete("shards/train-000002.tar")
    (out / "shards/train-000002.tar").unlink()
    assert take(stream(bucket.uri, on_bad="skip"), 30) == take(stream(out, on_bad="skip"), 30)
