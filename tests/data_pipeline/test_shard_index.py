"""The index of a shard: right, kept, and never believed when the shard is another one."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_pipeline.shard_index import ABSENT, INDEX, MEMBERS, ShardError, beside, make_index, read_index
from data_pipeline.storage import Storage
from tests.data_pipeline.phases import World, tree, world


def entry(out: Storage, shard: int = 0) -> dict[str, Any]:
    return out.read_json("dataset.json")["shards"][shard]


def test_places_are_those_of_the_tar(made: Path) -> None:
    out = Storage(made)
    for shard in range(3):
        table = make_index(out, entry(out, shard))
        tar = made / f"shards/train-{shard:06d}.tar"
        rows = {row["key"]: row for row in table.to_pylist()}
        data, seen = tar.read_bytes(), 0
        with tarfile.open(tar) as file:
            for info in file:
                key, _, ending = info.name.partition(".")
                if ending in MEMBERS:
                    place = tuple(rows[key][f"{ending}_{column}"] for column in ("offset", "size", "crc"))
                    content = data[place[0] : place[0] + place[1]]
                    stream = file.extractfile(info)
                    assert stream is not None and content == stream.read() and zlib.crc32(content) == place[2]
                    seen += 1
        assert seen == 3 * len(rows)
        sidecar = pq.read_table(tar.with_suffix(".parquet")).to_pylist()
        for name in ("key", "source", "identity", "person_type"):
            assert [row[name] for row in sidecar] == table[name].to_pylist()


def test_a_sample_without_a_mask(photos: Path, pack: Path, tmp_path: Path) -> None:
    world(photos, pack, tmp_path / "out").build()
    table = make_index(Storage(tmp_path / "out"), entry(Storage(tmp_path / "out")))
    assert set(table["mask.png_offset"].to_pylist()) == {ABSENT}
    assert ABSENT not in table["jpg_offset"].to_pylist()


def test_it_is_kept_and_equal_shards_give_equal_bytes(finished: World, tmp_path: Path) -> None:
    out, shard = finished.out, entry(finished.out)
    before = tree(out.local_path("shards"))
    first = read_index(out, out, shard)
    assert tree(out.local_path("shards")) == before
    kept = out.read_bytes("index/train-000000.parquet")
    read_index(out, Storage(tmp_path / "elsewhere"), shard)
    assert (tmp_path / "elsewhere/index/train-000000.parquet").read_bytes() == kept
    out.local_path("shards/train-000000.tar").unlink()  # not looked at again
    again = read_index(out, out, shard)
    assert again.equals(first) and again.schema.equals(INDEX)


@pytest.mark.parametrize("damage", ["bytes", "another shard", "another table"])
def test_a_kept_one_that_does_not_fit_is_made_again(finished: World, damage: str) -> None:
    out, name = finished.out, "index/train-000000.parquet"
    expected = read_index(out, out, entry(out))
    whole = out.read_bytes(name)
    if damage == "bytes":
        out.write_bytes(name, whole[:-20])
    elif damage == "another shard":
        read_index(out, out, entry(out, 1))
        out.write_bytes(name, out.read_bytes("index/train-000001.parquet"))
    else:
        out.write_bytes(name, out.read_bytes("shards/train-000000.parquet"))
    assert read_index(out, out, entry(out)).equals(expected)
    assert out.read_bytes(name) == whole


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("tar missing", r"train-000000\.tar is missing"),
        ("tar short", r"train-000000\.tar has 1,000 bytes where"),
        ("tar changed", r"train-000000\.tar has changed.*sha256"),
        ("header changed", r"train-000000\.tar has changed.*sha256"),
        ("sidecar missing", r"train-000000\.parquet is missing"),
        ("sidecar changed", r"train-000000\.parquet has changed"),
    ],
)
def test_damage_is_an_error_and_nothing_is_kept(finished: World, damage: str, message: str) -> None:
    tar, sidecar = (finished.out.local_path(f"shards/train-000000.{ending}") for ending in ("tar", "parquet"))
    data = bytearray(tar.read_bytes())
    if damage.endswith("missing"):
        (tar if damage.startswith("tar") else sidecar).unlink()
    elif damage == "tar short":
        tar.write_bytes(data[:1000])
    elif damage == "sidecar changed":
        sidecar.write_bytes(b"x" + sidecar.read_bytes()[1:])
    else:
        data[148 if damage == "header changed" else 5000] ^= 1
        tar.write_bytes(data)
    with pytest.raises(ShardError, match=message):
        read_index(finished.out, finished.out, entry(finished.out))
    assert not finished.out.exists("index/train-000000.parquet")


def test_a_tar_of_other_samples_than_its_sidecar(finished: World) -> None:
    out = finished.out
    lied = {**entry(out), "parquet_sha256": entry(out, 1)["parquet_sha256"]}
    out.write_bytes("shards/train-000000.parquet", out.read_bytes("shards/train-000001.parquet"))
    with pytest.raises(ShardError, match="list different samples"):
        make_index(out, lied)


def test_a_folder_that_cannot_be_written(finished: World, caplog: pytest.LogCaptureFixture) -> None:
    out = finished.out
    out.write_bytes("index", b"a file where the folder would be")
    assert read_index(out, out, entry(out)).num_rows == 8
    assert "cannot be written" in caplog.text and "`cache`" in caplog.text


def test_a_cache_has_a_folder_for_each_dataset(finished: World, made: Path, tmp_path: Path) -> None:
    out, cache = finished.out, str(tmp_path / "cache")
    assert beside(out, None) is out
    assert beside(out, cache).uri == beside(Storage(made), cache).uri, "equal datasets share it, wherever they are"
    out.write_json("dataset.json", {**out.read_json("dataset.json"), "config_hash": "other"})
    assert beside(out, cache).uri != beside(Storage(made), cache).uri
    assert beside(out, cache).uri.startswith(cache + "/")
    where = beside(out, "s3://bucket/a folder?scheme=http&endpoint_override=host:1")
    assert where.uri.startswith("s3://bucket/a folder/") and where.uri.endswith(
        "?scheme=http&endpoint_override=host:1"
    )
