"""Shards: the same bytes for the same inputs, whole or not there, and written again exactly when their content changes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from PIL import Image

from data_pipeline import jpeg
from data_pipeline.decode import decode
from data_pipeline.measures import resize_antialiased
from data_pipeline.schema import METRICS
from data_pipeline.select import Selection
from data_pipeline.shards import INPUTS, ShardPlan, write_shard
from data_pipeline.storage import Storage
from tests.data_pipeline.phases import Killed, World, kill_before_change, tree, world
from tests.tiny_world import SIDE, make_photos, photo


def shard_files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def selected(made: World) -> tuple[Any, Selection]:
    source = made.scan()
    return source, made.select(source, made.analyse(source))


def planned(made: World) -> ShardPlan:
    return made.plan_shards(*selected(made))


def write(made: World, plan: ShardPlan) -> None:
    for shard in plan.todo:
        write_shard(made.data, shard, plan.digests[shard])


def members(tar: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(tar) as file:
        return file.getmembers()


def samples(tar: Path) -> list[dict[str, Any]]:
    with tar.open("rb") as stream:
        files = webdataset.tariterators.tar_file_expander([{"url": tar.name, "stream": stream}])
        return list(webdataset.tariterators.group_by_keys(files))


def test_a_shard_is_a_tar_a_sidecar_and_a_marker(made: Path) -> None:
    names = [f"train-{n:06d}{ending}" for n in range(3) for ending in (".parquet", ".tar", "_stats.json")]
    assert sorted(shard_files(made)) == sorted([*names, "inputs.parquet"])
    out = Storage(made)
    for number in range(3):
        stats = out.read_json(f"shards/train-{number:06d}_stats.json")
        tar = out.read_bytes(f"shards/train-{number:06d}.tar")
        sidecar = out.read_bytes(f"shards/train-{number:06d}.parquet")
        assert stats["samples"] == 8 and stats["status"] == {"written": 8}
        assert stats["bytes"] == len(tar) and stats["sha256"] == hashlib.sha256(tar).hexdigest()
        assert stats["parquet_sha256"] == hashlib.sha256(sidecar).hexdigest()
        assert stats["identities"] == len(
            set(out.read_table(f"shards/train-{number:06d}.parquet")["identity"].to_pylist())
        )


def test_a_photo_that_is_a_sample_already_is_not_encoded_again(pack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "person"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    photo(0, 0, size=SIDE).save(folder / "fits.jpg", quality=80, exif=exif)
    exif[0x0112] = 6
    photo(0, 1, size=SIDE).save(folder / "lies.jpg", quality=80, exif=exif)
    photo(0, 2, size=SIDE).convert("L").save(folder / "grey.jpg", quality=80)
    photo(0, 3, size=SIDE).save(folder / "other.png")
    made = world(tmp_path / "photos", pack, tmp_path / "out", min_identity_similarity=None)
    assert made.build()["counts"]["accepted"] == 4
    written = {json.loads(s["json"])["file"]: s["jpg"] for s in samples(tmp_path / "out/shards/train-000000.tar")}
    assert written["person/fits.jpg"] == jpeg.without_metadata((folder / "fits.jpg").read_bytes())
    for name in ("lies.jpg", "grey.jpg", "other.png"):
        bgr = decode((folder / name).read_bytes(), 10**6)[..., ::-1]
        assert written[f"person/{name}"] == jpeg.encode(np.ascontiguousarray(bgr)), name
    assert not any(b"SECRET" in data for data in written.values())


def test_members_name_no_time_and_no_owner(made: Path) -> None:
    for tar in sorted((made / "shards").glob("*.tar")):
        found = members(tar)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in found} == {(0, 0, 0, "", "", 0o644)}
        keys = list(dict.fromkeys(m.name.partition(".")[0] for m in found))
        endings = [sorted(m.name.partition(".")[2] for m in found if m.name.startswith(key)) for key in keys]
        assert endings == [["id.npy", "jpg", "json", "mask.png", "parts.png"]] * 8
        # Each sample in one piece, its members sorted.
        assert [m.name for m in found] == [
            name for key in keys for name in sorted(m.name for m in found if key in m.name)
        ]


def test_a_sample_is_what_the_selection_says(made: Path, photos: Path) -> None:
    out = Storage(made)
    selection = {row["key"]: row for row in out.read_table("selection.parquet").to_pylist()}
    keys = []
    for tar in sorted((made / "shards").glob("*.tar")):
        sidecar = {row["key"]: row for row in out.read_table(f"shards/{tar.stem}.parquet").to_pylist()}
        for sample in samples(tar):
            key = sample["__key__"]
            keys.append(key)
            row, description = selection[key], json.loads(sample["json"])
            assert f"train-{row['shard']:06d}" == tar.stem
            assert {name: description[name] for name in ("key", "image_id", "source", "identity")} == {
                name: row[name] for name in ("key", "image_id", "source", "identity")
            }
            assert description["licence"] == "test" and description["person_type"] == "person"
            assert description["file"] == Path(row["path"]).relative_to(photos).as_posix()
            assert str(photos) not in sample["json"].decode(), "samples name no machine"
            assert set(METRICS) <= set(description)
            assert sidecar[key] == {**description, "status": "written"}

            jpeg = Image.open(io.BytesIO(sample["jpg"]))
            assert (jpeg.format, jpeg.mode, jpeg.size) == ("JPEG", "RGB", (SIDE, SIDE))
            pixels = np.asarray(Image.open(row["path"]).convert("RGB"))
            x0, y0, x1, y1 = description["crop"]
            expected = resize_antialiased(pixels[y0:y1, x0:x1], SIDE).astype(float)
            assert np.abs(np.asarray(jpeg) - expected).mean() < 4

            vector = np.load(io.BytesIO(sample["id.npy"]), allow_pickle=False)
            assert vector.dtype == np.float16 and vector.shape == (192,)
            assert np.linalg.norm(vector.astype(np.float32)) == pytest.approx(1, abs=2e-3)
            mask, parts = (Image.open(io.BytesIO(sample[name])) for name in ("mask.png", "parts.png"))
            assert mask.mode == parts.mode == "L" and mask.size == parts.size == (SIDE, SIDE)
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
            np.testing.assert_array_equal(np.asarray(mask) > 0, np.asarray(parts) > 0)
        assert list(sidecar) == [sample["__key__"] for sample in samples(tar)]
    assert sorted(keys) == sorted(key for key in selection if key) and len(keys) == 24


def test_without_masks_and_identities(pack: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", people=2, each=3)
    sources = [{"path": str(tmp_path / "photos"), "layout": "flat"}]
    world("", pack, tmp_path / "out", sources=sources).build()
    (tar,) = (tmp_path / "out/shards").glob("*.tar")
    for sample in samples(tar):
        assert set(sample) - {"__key__", "__url__", "__local_path__"} == {"jpg", "json", "id.npy"}
        description = json.loads(sample["json"])
        assert description["identity"] is None and description["person_type"] == "person"
        assert description["n_parts"] is None


def test_the_same_inputs_give_the_same_bytes_anywhere(
    made: Path, photos: Path, pack: Path, parser: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "elsewhere" / "photos"))
    world(moved, pack, tmp_path / "again", parser).build()
    first, second = shard_files(made), shard_files(tmp_path / "again")
    first.pop("inputs.parquet"), second.pop("inputs.parquet")  # working file, with paths
    assert first == second


def test_writing_a_shard_again_changes_no_byte(finished: World) -> None:
    out = finished.out.local_path()
    before = shard_files(out)
    plan = planned(finished)
    assert plan.todo == [] and plan.samples == 24 and plan.samples_todo == 0
    for shard in range(3):
        write_shard(finished.data, shard, plan.digests[shard])
    assert shard_files(out) == before


@pytest.mark.parametrize("name", ["train-000001.tar", "train-000001.parquet", "train-000001_stats.json"])
def test_what_is_missing_is_written_again(finished: World, name: str) -> None:
    out = finished.out.local_path()
    before = shard_files(out)
    (out / "shards" / name).unlink()
    plan = planned(finished)
    assert plan.todo == [1] and plan.samples_todo == 8
    write(finished, plan)
    assert shard_files(out) == before


def test_a_truncated_shard_is_written_again(finished: World) -> None:
    out = finished.out.local_path()
    before = shard_files(out)
    tar = out / "shards/train-000002.tar"
    tar.write_bytes(tar.read_bytes()[:-1])
    plan = planned(finished)
    assert plan.todo == [2]
    write(finished, plan)
    assert shard_files(out) == before


@pytest.mark.parametrize("step", range(4))
def test_a_kill_between_writes_leaves_no_marker(finished: World, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The four changes of the folder: the marker goes, tar, sidecar and marker come; killed before each of them."""
    out = finished.out.local_path()
    before = shard_files(out)
    digest = planned(finished).digests[0]
    with monkeypatch.context() as patch:
        kill_before_change(patch, step)
        with pytest.raises(Killed):
            write_shard(finished.data, 0, digest)
    assert (out / "shards/train-000000_stats.json").exists() == (step == 0)
    plan = planned(finished)
    assert plan.todo == ([] if step == 0 else [0])
    write(finished, plan)
    assert shard_files(out) == before


def test_a_source_that_changed_gives_no_shard(pack: Path, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", people=2, each=4)
    made = world(folder, pack, tmp_path / "out")
    plan = planned(made)
    photo(0, 77).save(folder / "person-00/001.jpg")
    with pytest.raises(OSError, match=r"001\.jpg changed since it was analysed"):
        write(made, plan)
    assert list((tmp_path / "out/shards").glob("*_stats.json")) == []
    (folder / "person-00/001.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        write(made, plan)
    assert [path.name for path in (tmp_path / "out/shards").iterdir()] == ["inputs.parquet"]


def test_digests_follow_the_content(finished: World) -> None:
    source, selection = selected(finished)
    base = finished.plan_shards(source, selection).digests
    assert len(set(base)) == 3

    def changed(**columns: Any) -> list[int]:
        images = selection.images
        for name, value in columns.items():
            values = images[name].to_pylist()
            values[images["shard"].to_pylist().index(1)] = value
            field = images.schema.field(name)
            images = images.set_column(images.column_names.index(name), field, pa.array(values, field.type))
        digests = finished.plan_shards(source, Selection(images, selection.identities)).digests
        return [number for number in range(3) if digests[number] != base[number]]

    assert changed(identity_similarity=0.123) == [1]
    assert changed(nearest_identity="tiny/other") == [1]
    assert changed(key="f" * 20) == [1]
    assert changed(duplicate_of="/elsewhere") == [], "not part of a sample"


def test_moved_photos_make_no_work(pack: Path, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", people=2, each=4)
    made = world(folder, pack, tmp_path / "out")
    made.build()
    before = shard_files(tmp_path / "out")
    folder.rename(tmp_path / "moved")
    moved = world(tmp_path / "moved", pack, tmp_path / "out")
    assert planned(moved).todo == []
    after = shard_files(tmp_path / "out")
    before.pop("inputs.parquet"), after.pop("inputs.parquet")
    assert before == after


def test_shards_that_are_no_longer_wanted_go(finished: World, pack: Path, parser: Path) -> None:
    out = finished.out.local_path()
    (out / "shards/train-000009.tar").write_bytes(b"left behind")
    (out / "shards/train-000009_stats.json").write_text("{}")
    (out / "shards/.tmp-killed").write_bytes(b"half")
    source = finished.data.sources[0].path
    larger = world(source, pack, out, parser, shard_size=20)
    plan = planned(larger)
    assert plan.names == ["shards/train-000000", "shards/train-000001"] and plan.todo == [0, 1]
    write(larger, plan)
    assert sorted(shard_files(out)) == [
        "inputs.parquet",
        *(f"train-{n:06d}{ending}" for n in range(2) for ending in (".parquet", ".tar", "_stats.json")),
    ]
    other = world(source, pack, out, parser, shard_size=20, split="val")
    write(other, planned(other))
    assert [name for name in shard_files(out) if name.startswith("train")] == []


def test_nothing_accepted_is_no_shard(finished: World, pack: Path, parser: Path) -> None:
    nobody = world(finished.data.sources[0].path, pack, finished.data.output, parser, min_identity_images=100)
    plan = planned(nobody)
    assert (plan.names, plan.todo, plan.samples, plan.samples_todo) == ([], [], 0, 0)
    assert list(shard_files(finished.out.local_path())) == [Path(INPUTS).name]


def test_equal_bytes_are_two_samples_where_duplicates_may_stay(pack: Path, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", people=2, each=4)
    for number in range(12):
        (folder / f"person-01/copy {number}.jpg").write_bytes((folder / "person-01/000.jpg").read_bytes())
    kept = {"drop_exact_duplicates": False, "near_duplicate_bits": None}
    manifest = world(folder, pack, tmp_path / "out", **kept).build()
    assert manifest["counts"]["accepted"] == 20
    found = [sample for tar in sorted((tmp_path / "out/shards").glob("*.tar")) for sample in samples(tar)]
    assert len({sample["__key__"] for sample in found}) == len(found) == 20
    assert len({json.loads(sample["json"])["file"] for sample in found}) == 20


def test_sources_are_never_modified(pack: Path, parser: Path, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", people=2, each=4)
    (folder / "person-00/000_mask.png").write_bytes(b"no mask")
    before = tree(folder)
    world(folder, pack, tmp_path / "out", parser).build()
    assert tree(folder) == before
