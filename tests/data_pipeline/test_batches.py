"""Batches that are made ahead: the same samples, and a place in the stream that knows only what was handed out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from data_pipeline.batches import Batches
from data_pipeline.training_set import BadSample
from tests.data_pipeline.phases import World
from tests.data_pipeline.streams import keys, keys_of_shard, spoil, stream

SIZE = 4


@pytest.fixture
def out(finished: World) -> Path:
    """24 samples in 3 shards of one's own, with their index."""
    stream(finished.data.output)
    return Path(finished.data.output)


def taken(batches: Batches, count: int) -> list[str]:
    return [key for _ in range(count) for key in next(batches)["key"]]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_they_are_the_samples_of_the_stream(out: Path, threads: int) -> None:
    with stream(out, threads=threads, ahead=8) as source, Batches(source, SIZE) as batches:
        assert taken(batches, 5) == keys(stream(out), 5 * SIZE)


def test_what_is_made_ahead_counts_as_not_taken(out: Path) -> None:
    with stream(out, threads=1) as source, Batches(source, SIZE) as batches:
        first = taken(batches, 2)
        while source.position < 3 * SIZE:  # until the thread has the third, which nobody asked for
            time.sleep(0.001)
        state = batches.state()
        plain = stream(out)
        assert first == keys(plain, 2 * SIZE)
        assert state == plain.state()
        after = taken(batches, 3)
        batches.load_state(state)
        assert taken(batches, 3) == after
    with stream(out, threads=1) as source, Batches(source, SIZE) as batches:
        batches.load_state(state)
        assert batches.state() == state
        assert taken(batches, 3) == after == keys(plain, 3 * SIZE)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_bad_sample_stops_the_batch_that_has_it(out: Path, threads: int) -> None:
    lost = keys_of_shard(out, 1)
    drawn = keys(stream(out), 200)
    whole = next(number for number, key in enumerate(drawn) if key in lost) // SIZE
    for key in lost:
        spoil(out, key, "jpg")
    with stream(out, threads=threads) as source, Batches(source, SIZE) as batches:
        assert taken(batches, whole) == drawn[: whole * SIZE]
        for _ in range(2):
            with pytest.raises(BadSample, match="bytes changed"):
                next(batches)
        assert batches.state()["position"] == whole * SIZE
    with stream(out, threads=threads, on_bad="skip") as source, Batches(source, SIZE) as batches:
        plain = stream(out, on_bad="skip")
        assert taken(batches, 20) == keys(plain, 20 * SIZE)
        assert batches.skipped == plain.skipped and plain.skipped


@pytest.mark.parametrize("threads", [0, 1])
def test_a_storage_that_answers_again_goes_on_with_the_batch(out: Path, threads: int) -> None:
    expected = keys(stream(out), 15 * SIZE)
    tar = out / "shards/train-000001.tar"
    found: list[str] = []
    with stream(out, threads=threads) as source, Batches(source, SIZE) as batches:
        tar.rename(out / "tar")
        tar.mkdir()
        with pytest.raises(OSError):
            while len(found) < len(expected):
                found += taken(batches, 1)
        tar.rmdir()
        (out / "tar").rename(tar)
        assert found + taken(batches, 15 - len(found) // SIZE) == expected
