"""Finished datasets as one table: what is read, and what is said of datasets that cannot be read."""

from __future__ import annotations

import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.storage import Storage
from data_pipeline.training_set import BadSample, open_training_set
from tests.data_pipeline.phases import World, world
from tests.data_pipeline.streams import copy_of, keys_of_shard, spoil
from tests.tiny_world import make_photos, photo


def contents(dataset: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted((dataset / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                stream = tar.extractfile(info)
                assert stream is not None
                found[info.name] = stream.read()
    return found


@pytest.fixture(scope="module")
def ready(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `made` that may get an index."""
    return copy_of(made, tmp_path_factory.mktemp("ready") / "out")


@pytest.fixture
def others(pack: Path, parser: Path, tmp_path: Path) -> Path:
    """A dataset of other photos, 6 samples."""
    photos = make_photos(tmp_path / "more", people=2, each=3)
    for person, folder in enumerate(sorted(photos.iterdir())):
        for number, file in enumerate(sorted(folder.iterdir())):
            photo(50 + person, number).save(file, quality=92)
    world(photos, pack, tmp_path / "others", parser, sources=[{"path": str(photos), "name": "more"}]).build()
    return tmp_path / "others"


def test_members_are_the_tar_s(ready: Path) -> None:
    found, expected = open_training_set([str(ready)]), contents(ready)
    assert len(found) == 24 and found.id_dim == 192
    assert found.keys.to_pylist() == list(dict.fromkeys(name.partition(".")[0] for name in expected))
    for sample in range(24):
        key = found.keys[sample].as_py()
        everything = found.read(sample, ["id.npy", "jpg", "mask.png"])
        assert everything == {ending: expected[f"{key}.{ending}"] for ending in ("id.npy", "jpg", "mask.png")}
        assert found.read(sample, ["mask.png"]) == {"mask.png": everything["mask.png"]}
        description = json.loads(expected[f"{key}.json"])
        columns = {"source": found.sources, "identity": found.identities, "person_type": found.person_types}
        assert {name: column[sample].as_py() for name, column in columns.items()} == {
            name: description[name] for name in columns
        }


def test_a_member_that_a_sample_does_not_have(photos: Path, pack: Path, tmp_path: Path) -> None:
    world(photos, pack, tmp_path / "out").build()
    found = open_training_set([str(tmp_path / "out")])
    assert set(found.read(3, ["jpg", "mask.png"])) == {"jpg"}
    assert found.read(3, ["mask.png"]) == {}


def test_several_datasets(ready: Path, others: Path) -> None:
    both = open_training_set([str(ready), str(others)])
    assert len(both) == 30 and len(both.shards) == 4
    alone = open_training_set([str(others)])
    for sample in range(6):
        assert both.keys[24 + sample] == alone.keys[sample]
        assert both.read(24 + sample, ["jpg"]) == alone.read(sample, ["jpg"])
    assert both.digest not in (alone.digest, open_training_set([str(others), str(ready)]).digest)


def test_the_digest_is_of_the_content_not_of_the_place(ready: Path, tmp_path: Path) -> None:
    moved = copy_of(ready, tmp_path / "moved")
    assert open_training_set([str(moved)]).digest == open_training_set([str(ready)]).digest


def test_many_threads_read_at_once(ready: Path) -> None:
    found, expected = open_training_set([str(ready)]), contents(ready)
    wrong: list[str] = []

    def read(seed: int) -> None:
        for sample in np.random.default_rng(seed).integers(0, 24, 200):
            if found.read(sample, ["jpg"])["jpg"] != expected[f"{found.keys[int(sample)].as_py()}.jpg"]:
                wrong.append(found.keys[int(sample)].as_py())

    threads = [threading.Thread(target=read, args=[seed]) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_no_dataset(tmp_path: Path, ready: Path, finished: World) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/dataset.json").write_text('{"format": "adaface-dataset/1", "shards": [')
    (tmp_path / "future").mkdir()
    (tmp_path / "future/dataset.json").write_text('{"format": "adaface-dataset/9"}')
    (tmp_path / "poor").mkdir()
    (tmp_path / "poor/dataset.json").write_text('{"format": "adaface-dataset/1", "shards": []}')
    names = ("empty", "torn", "future", "poor")
    with pytest.raises(ValueError) as caught:
        open_training_set([str(tmp_path / name) for name in names])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for line, name, words in zip(
        lines, names, ("run the build", "is damaged", "this version reads", "damaged"), strict=True
    ):
        assert name in line and words in line
    finished.out.write_json("dataset.json", {**finished.out.read_json("dataset.json"), "shards": []})
    with pytest.raises(ValueError, match="not one sample"):
        open_training_set([finished.out.uri])


def test_embeddings_of_different_length(ready: Path, finished: World) -> None:
    finished.out.write_json("dataset.json", {**finished.out.read_json("dataset.json"), "id_dim": 512})
    with pytest.raises(ValueError, match=r"one length.*192.*512"):
        open_training_set([str(ready), finished.out.uri])


def test_a_sample_that_is_there_twice(ready: Path, finished: World) -> None:
    with pytest.raises(ValueError, match="24 samples are in more than one of"):
        open_training_set([str(ready), finished.out.uri])


def test_every_lost_shard_is_named(finished: World, caplog: pytest.LogCaptureFixture) -> None:
    out = Path(finished.data.output)
    (out / "shards/train-000000.tar").unlink()
    (out / "shards/train-000002.tar").write_bytes(b"short")
    with pytest.raises(
        ValueError, match=r"(?s)train-000000\.tar is missing.*train-000002\.tar has 5 bytes.*on_bad: skip"
    ):
        open_training_set([str(out)])
    found = open_training_set([str(out)], on_bad="skip")
    assert len(found) == 24, "the numbers of the others stay what they were"
    assert "train-000000.tar is missing: its samples will be skipped" in caplog.text
    assert found.read(10, ["jpg"])["jpg"]
    for sample in (0, 23):
        with pytest.raises(BadSample, match="shard lost") as caught:
            found.read(sample, ["jpg"])
        assert caught.value.kind == "shard lost" and caught.value.key == found.keys[sample].as_py()


def test_a_shard_lost_with_its_sidecar(finished: World, caplog: pytest.LogCaptureFixture) -> None:
    out = Path(finished.data.output)
    whole = open_training_set([str(out)]).digest
    (out / "shards/train-000001.tar").unlink()
    (out / "shards/train-000001.parquet").unlink()
    found = open_training_set([str(out)], on_bad="skip")
    assert len(found) == 16 and "nothing is known of its samples" in caplog.text
    assert found.digest != whole


def test_bytes_that_rot_after_the_index_was_made(finished: World) -> None:
    out = Path(finished.data.output)
    open_training_set([str(out)])
    key = sorted(keys_of_shard(out, 1))[0]
    spoil(out, key, "jpg")
    found = open_training_set([str(out)])  # of the right size, and the index is there: nothing to see
    sample = found.keys.to_pylist().index(key)
    with pytest.raises(BadSample, match=rf"sample {key} of .*train-000001\.tar: bytes changed \(its \.jpg"):
        found.read(sample, ["jpg"])
    assert set(found.read(sample, ["mask.png", "id.npy"])) == {"mask.png", "id.npy"}


def test_a_shard_that_goes_away_or_shrinks_while_it_is_used(finished: World) -> None:
    found = open_training_set([finished.out.uri])
    tars = [finished.out.local_path(f"shards/train-{shard:06d}.tar") for shard in (0, 1)]
    tars[0].unlink()
    tars[1].write_bytes(tars[1].read_bytes()[:2000])
    with pytest.raises(BadSample, match="the file is gone"):
        found.read(0, ["jpg"])
    with pytest.raises(BadSample, match="bytes changed"):
        found.read(15, ["jpg"])


def test_a_storage_that_does_not_answer_is_no_bad_sample(finished: World) -> None:
    found = open_training_set([finished.out.uri])
    tar = finished.out.local_path("shards/train-000000.tar")
    tar.unlink()
    tar.mkdir()  # cannot be opened, though it is there
    with pytest.raises(OSError):
        found.read(0, ["jpg"])


def test_an_object_store(ready: Path, s3: Callable[[], str]) -> None:
    bucket = Storage(f"{s3()}/a set")
    for path in ready.rglob("*"):
        if path.is_file() and path.parent.name in ("shards", ready.name):
            bucket.write_bytes(path.relative_to(ready).as_posix(), path.read_bytes())
    found, local = open_training_set([bucket.uri]), open_training_set([str(ready)])
    assert found.digest == local.digest
    assert bucket.list("index") == [f"index/train-00000{shard}.parquet" for shard in range(3)]
    for sample in range(24):
        members = ["id.npy", "jpg", "mask.png"]
        assert found.read(sample, members) == local.read(sample, members)
    bucket.delete("shards/train-000000.tar")
    with pytest.raises(ValueError, match=r"train-000000\.tar is missing"):
        open_training_set([bucket.uri])
    assert len(open_training_set([bucket.uri], on_bad="skip")) == 24
    gone = open_training_set([bucket.uri], on_bad="skip")
    bucket.delete("shards/train-000001.tar")
    with pytest.raises(BadSample, match="the file is gone"):
        gone.read(12, ["jpg"])
