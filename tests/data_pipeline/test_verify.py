"""Whatever is wrong with a dataset folder is found, in words, and a sound one is sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.storage import Storage
from data_pipeline.verify import verify
from tests.data_pipeline.phases import World, tree, world


@pytest.fixture
def out(finished: World) -> Path:
    return finished.out.local_path()


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_sound_dataset_has_no_problems_and_is_not_touched(out: Path) -> None:
    before = tree(out)
    assert verify(str(out)) == []
    assert tree(out) == before


def test_a_dataset_of_nothing_is_sound(photos: Path, pack: Path, tmp_path: Path) -> None:
    world(photos, pack, tmp_path / "out", min_face=2000).build()
    assert verify(str(tmp_path / "out")) == []


def test_what_is_no_dataset(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        (problem,) = verify(str(folder))
        assert "dataset.json is missing" in problem
    (tmp_path / "dataset.json").write_text('{"format": "other/1"}')
    (problem,) = verify(str(tmp_path))
    assert "'other/1'" in problem


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "adaface-dataset/1"}'])
def test_a_damaged_manifest(out: Path, text: str) -> None:
    (out / "dataset.json").write_text(text)
    (problem,) = verify(str(out))
    assert "dataset.json" in problem and "run the build" in problem


@pytest.mark.parametrize("place", [0, 600, 5000, -1])
def test_a_flipped_bit_in_a_shard(out: Path, place: int) -> None:
    flip(out / "shards/train-000001.tar", place)
    (problem,) = verify(str(out))
    assert "train-000001.tar has changed" in problem and "delete shards/train-000001_stats.json" in problem


@pytest.mark.parametrize("keep", [0, 1, 512, 10_000])
def test_a_truncated_shard(out: Path, keep: int) -> None:
    tar = out / "shards/train-000001.tar"
    tar.write_bytes(tar.read_bytes()[:keep])
    (problem,) = verify(str(out))
    assert "train-000001.tar is truncated" in problem


def test_a_shard_that_grew(out: Path) -> None:
    with (out / "shards/train-000001.tar").open("ab") as tar:
        tar.write(b"\0" * 512)
    (problem,) = verify(str(out))
    assert "train-000001.tar has changed" in problem


@pytest.mark.parametrize("ending", [".tar", ".parquet", "_stats.json"])
def test_a_missing_file_of_a_shard(out: Path, ending: str) -> None:
    (out / f"shards/train-000000{ending}").unlink()
    (problem,) = verify(str(out))
    assert f"train-000000{ending} is missing" in problem


def test_a_changed_sidecar(out: Path) -> None:
    flip(out / "shards/train-000002.parquet", 100)
    (problem,) = verify(str(out))
    assert "train-000002.parquet has changed" in problem


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"samples": 8}'])
def test_a_damaged_marker(out: Path, text: str) -> None:
    (out / "shards/train-000002_stats.json").write_text(text)
    (problem,) = verify(str(out))
    assert "train-000002_stats.json" in problem


def test_a_surplus_shard(out: Path) -> None:
    shutil.copy(out / "shards/train-000000.tar", out / "shards/train-000003.tar")
    (problem,) = verify(str(out))
    assert "train-000003.tar is not in dataset.json" in problem


def edit_manifest(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((out / "dataset.json").read_text())
    change(manifest)
    (out / "dataset.json").write_text(json.dumps(manifest))


def test_a_gap_in_the_numbers(out: Path) -> None:
    for path in list((out / "shards").glob("train-000001*")):
        path.unlink()
    edit_manifest(out, lambda manifest: manifest["shards"].pop(1))
    problems = verify(str(out))
    assert any("shard numbers have gaps: [0, 2]" in problem for problem in problems)


def test_a_lost_last_shard_is_noticed_by_the_selection(out: Path) -> None:
    for path in list((out / "shards").glob("train-000002*")):
        path.unlink()
    edit_manifest(out, lambda manifest: manifest["shards"].pop(2))
    (problem,) = verify(str(out))
    assert "8 accepted images are in no shard" in problem


def test_a_manifest_of_another_build(out: Path) -> None:
    edit_manifest(out, lambda manifest: manifest["shards"][0].update(sha256="0" * 64))
    problems = verify(str(out))
    assert any("disagree" in problem for problem in problems)


def test_a_shard_twice(out: Path) -> None:
    def twice(manifest: dict[str, Any]) -> None:
        manifest["shards"][1] = {**manifest["shards"][0], "name": "train-000001"}

    for ending in (".tar", ".parquet", "_stats.json"):
        shutil.copy(out / f"shards/train-000000{ending}", out / f"shards/train-000001{ending}")
    edit_manifest(out, twice)
    problems = verify(str(out))
    assert any("8 sample keys are in the shards more than once" in problem for problem in problems)
    assert any("8 accepted images are in no shard" in problem for problem in problems)


@pytest.mark.parametrize("damage", ["gone", "flipped", "empty"])
def test_a_selection_that_is_gone_or_damaged(out: Path, damage: str) -> None:
    path = out / "selection.parquet"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-20])
    (problem,) = verify(str(out))
    assert "selection.parquet" in problem and "run the build" in problem


def test_several_problems_are_all_told(out: Path) -> None:
    flip(out / "shards/train-000000.tar", 600)
    flip(out / "shards/train-000001.parquet", 100)
    (out / "shards/train-000002_stats.json").unlink()
    (out / "shards/other-000000.tar").write_bytes(b"")
    assert len(verify(str(out))) == 4


def test_in_an_object_store(out: Path, s3: Callable[[], str]) -> None:
    remote = Storage(f"{s3()}/faces")
    for path in out.rglob("*"):
        if path.is_file():
            remote.write_bytes(path.relative_to(out).as_posix(), path.read_bytes())
    assert verify(remote.uri) == []
    remote.write_bytes("shards/train-000001.tar", b"short")
    (problem,) = verify(remote.uri)
    assert "truncated" in problem
