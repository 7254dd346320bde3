"""Parts: even, stable while photos come and go, and never mixed with those of another configuration."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.plan import PLAN, PLAN_HASH, Plan, feature_key, make_plan, part_name, read_part_plan, sample_order
from data_pipeline.schema import SOURCE
from data_pipeline.storage import Storage
from tests.data_pipeline.phases import Killed, kill_before_change


@pytest.fixture
def out(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "out")


def source(numbers: list[int] | range, folder: str = "photos", **columns: Any) -> pa.Table:
    rows = [
        {
            "image_id": hashlib.sha256(str(number).encode()).hexdigest(),
            "source": "src",
            "path": f"/{folder}/{number}.jpg",
            "licence": "test",
            "bytes": 1,
            "mask_is_given": False,
            **columns,
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(rows, schema=SOURCE)


def plan(out: Storage, table: pa.Table, part_size: int = 10, hash: str = "one", seed: int = 0) -> Plan:
    config = DataConfig(sources=[{"path": "/photos"}], output=out.uri, part_size=part_size, seed=seed)
    return make_plan(out, table, config, hash)


def finish(out: Storage, *parts: int) -> None:
    for part in parts:
        out.write_bytes(part_name(part), b"features of part %d" % part)


def contents(out: Storage, parts: int) -> list[list[str]]:
    return [[row["path"] for row in read_part_plan(out, part)] for part in range(parts)]


@pytest.mark.parametrize("count", [1, 9, 10, 11, 25, 101])
def test_every_image_is_in_one_even_part(out: Storage, count: int) -> None:
    made = plan(out, source(range(count)))
    parts = contents(out, made.parts)
    assert made.parts == -(-count // 10) and made.todo == list(range(made.parts))
    assert made.images == made.images_todo == count
    assert sorted(path for part in parts for path in part) == sorted(source(range(count))["path"].to_pylist())
    assert max(map(len, parts)) <= 10 and max(map(len, parts)) - min(map(len, parts)) <= 1


def test_images_are_dealt_in_the_seeded_order(out: Storage, tmp_path: Path) -> None:
    plan(out, source(range(30)), seed=7)
    order = [row["image_id"] for part in range(3) for row in read_part_plan(out, part)]
    assert order == sorted(order, key=lambda image_id: sample_order(7, image_id))
    other = Storage(tmp_path / "other")
    plan(other, source(range(30)), seed=8)
    assert contents(other, 3) != contents(out, 3)


def test_the_order_of_the_source_does_not_matter(out: Storage, tmp_path: Path) -> None:
    plan(out, source(range(30)))
    other = Storage(tmp_path / "other")
    plan(other, source(range(29, -1, -1)))
    assert out.read_bytes(PLAN) == other.read_bytes(PLAN)


def test_equal_bytes_are_planned_once_and_masks_make_another_sample(out: Storage) -> None:
    table = pa.concat_tables(
        [source([1, 2]), source([1], folder="copy"), source([1], mask_id="m", mask_path="/m.png")]
    )
    made = plan(out, table)
    assert made.images == 3
    assert {feature_key(r["image_id"], r["mask_id"]) for r in read_part_plan(out, 0)} == {
        feature_key(r["image_id"], r["mask_id"]) for r in table.to_pylist()
    }


def test_nothing_new_is_nothing_to_do(out: Storage) -> None:
    plan(out, source(range(25)))
    finish(out, 0, 1, 2)
    before = out.read_bytes(PLAN)
    made = plan(out, source(range(25)))
    assert (made.parts, made.todo, made.images_todo) == (3, [], 0)
    assert out.read_bytes(PLAN) == before


def test_after_a_kill_what_is_finished_stays_finished(out: Storage) -> None:
    plan(out, source(range(25)))
    finish(out, 0, 2)
    parts = contents(out, 3)
    out.write_bytes("features/x", b"")
    os.rename(out.local_path("features/x"), out.local_path("features/.tmp-killed"))
    made = plan(out, source(range(25)))
    assert made.todo == [1] and made.images_todo == len(parts[1])
    assert contents(out, 3) == parts
    assert not out.exists("features/.tmp-killed")


def test_new_photos_make_new_parts(out: Storage) -> None:
    plan(out, source(range(25)))
    finish(out, 0, 1, 2)
    parts = contents(out, 3)
    made = plan(out, source(range(60)))
    assert contents(out, made.parts)[:3] == parts
    assert made.todo == [3, 4, 5, 6] and made.images == 60 and made.images_todo == 35
    assert {len(part) for part in contents(out, made.parts)[3:]} == {8, 9}
    assert out.read_bytes(part_name(1)) == b"features of part 1"


def test_moved_files_are_read_where_they_are_now(out: Storage) -> None:
    plan(out, source(range(20)))
    finish(out, 0)
    made = plan(out, source(range(20), folder="moved"))
    assert made.todo == [1]
    assert all(path.startswith("/moved/") for path in contents(out, 2)[1])


def test_removed_files_are_not_waited_for(out: Storage) -> None:
    plan(out, source(range(30)))
    finish(out, 0)
    gone = set(contents(out, 3)[1])
    left = [n for n in range(30) if f"/photos/{n}.jpg" not in gone]
    made = plan(out, source(left))
    assert made.parts == 3 and made.todo == [1, 2], "parts keep their numbers, even empty ones"
    assert contents(out, 3)[1] == [] and made.images_todo == 10
    finish(out, 1, 2)
    back = plan(out, source(range(30)))
    assert back.todo == [3] and set(contents(out, 4)[3]) == gone


def test_another_configuration_starts_anew(out: Storage) -> None:
    plan(out, source(range(25)))
    finish(out, 0, 1, 2)
    made = plan(out, source(range(25)), hash="two")
    assert made.todo == [0, 1, 2]
    assert [name for name in out.list("features") if "part-" in name] == []


@pytest.mark.parametrize("step", range(6))
def test_a_kill_while_starting_anew_leaves_no_old_features_under_the_new_hash(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its n-th change of the folder; features of the old configuration must be gone, or the old hash."""
    out = Storage(tmp_path / "out")
    plan(out, source(range(25)))
    finish(out, 0, 1, 2)
    with monkeypatch.context() as patch:
        kill_before_change(patch, step)
        with pytest.raises(Killed):
            plan(out, source(range(25)), hash="two")
    left = [name for name in out.list("features") if "part-" in name]
    hash_left = out.read_json(PLAN_HASH)["analyse_hash"] if out.exists(PLAN_HASH) else None
    assert hash_left == "one" if step == 0 else hash_left is None
    made = plan(out, source(range(25)), hash="two")
    assert made.todo == [0, 1, 2] and made.parts == 3, left
    finish(out, 0)
    assert plan(out, source(range(25)), hash="two").todo == [1, 2]


def test_a_plan_in_an_object_store(s3: Any) -> None:
    out = Storage(f"{s3()}/out")
    plan(out, source(range(25)))
    finish(out, 0)
    assert plan(out, source(range(25))).todo == [1, 2]
    assert plan(out, source(range(25)), hash="two").todo == [0, 1, 2]
