"""Real photos through real models: who is accepted, who is not, and what every kind of bad file becomes."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_jobs.config import DatasetConfig
from tests.ray_jobs.conftest import content, tree

Build = Callable[[DatasetConfig], dict[str, Any]]
ANIMALS = ("jiffpom", "lilbub")


def real_config(shared: Path, photos: Path, out: Path, **data: Any) -> DatasetConfig:
    return DatasetConfig.model_validate(
        {
            "data": {
                "sources": [{"path": str(photos), "name": "faces"}],
                "output": str(out),
                "part_size": 16,
                "shard_size": 64,
                "min_parts": 3,
                "max_parts": None,
                **data,
            },
            "perception": {
                "pack": str(shared / "models" / "real_pack"),
                "parser": {
                    "kind": "onnx",
                    "file": str(shared / "models" / "parse_skin_cloth_hair.onnx"),
                    "channels": ["skin", "cloth", "hair"],
                    "threshold": 0.5,
                },
            },
            "cluster": {"workers": 2},
        }
    )


def selection(out: Path) -> dict[str, dict[str, Any]]:
    return {
        "/".join(Path(row["path"]).parts[-2:]): row for row in pq.read_table(out / "selection.parquet").to_pylist()
    }


def features(out: Path) -> dict[str, dict[str, Any]]:
    parts = [pq.ParquetFile(path).read().to_pylist() for path in sorted((out / "features").glob("part-*.parquet"))]
    return {row["image_id"]: row for rows in parts for row in rows}


def test_people_are_accepted_and_animals_are_not(build: Build, shared: Path, tmp_path: Path) -> None:
    manifest = build(real_config(shared, shared / "faces", tmp_path / "out"))
    rows, feature = selection(tmp_path / "out"), features(tmp_path / "out")

    people = {name: row for name, row in rows.items() if not name.startswith(ANIMALS)}
    assert len(people) == 121
    rejected = {name: row["reasons"] for name, row in people.items() if not row["accepted"]}
    # One is a man whose photo differs much from his others (0.64 to his mean), one shows two faces of nearly equal
    # size.
    assert rejected == {
        "masatosakai/6.jpg": ["identity_outlier"],
        "ryangosling/may20-2014-2.jpg": ["multi_face"],
    }
    assert not any(row["accepted"] for name, row in rows.items() if name.startswith(ANIMALS))
    assert all("identity_not_a_face" in row["reasons"] for name, row in rows.items() if name.startswith(ANIMALS))

    assert np.mean([row["identity_similarity"] for row in people.values()]) == pytest.approx(0.85, abs=0.03)
    overlap = [feature[row["image_id"]]["mask_iou"] for row in people.values()]
    assert np.mean(overlap) > 0.85, "our masks against the person masks beside the photos"
    identities = {row["identity"]: row for row in pq.read_table(tmp_path / "out" / "identities.parquet").to_pylist()}
    assert identities["faces/keanureeves"]["accepted"] == 11
    assert max(row["nearest_similarity"] for row in identities.values()) < 0.5
    assert manifest["id_dim"] == 128

    # The three that a plain pass of the detector misses.
    for name in (
        "caradelevingne/rotten-tomatoes.jpg",
        "iainarmitage/rottontomatoes.jpg",
        "jenniferlawrence/aug07-2022.jpg",
    ):
        assert rows[name]["accepted"], name
        found = feature[rows[name]["image_id"]]
        assert found["detector_size"] < 640 or found["border"] > 0


def plant_faults(shared: Path, photos: Path) -> dict[str, Any]:
    """Copies four people and spoils the copy. Returns what each planted file must become: "accepted" or its
    reasons."""
    expected: dict[str, Any] = {}
    for person in ("alexachung", "keanureeves", "lisa", "michelleyeoh"):
        shutil.copytree(shared / "faces" / person, photos / person)

    def first(person: str, index: int) -> Path:
        return sorted((photos / person).glob("*.jpg"))[index]

    def become(old: Path, new: str, outcome: Any = "accepted") -> Path:
        expected[f"{old.parent.name}/{new}"] = outcome
        return old.with_name(new)

    # damaged
    whole = first("lisa", 0).read_bytes()
    become(first("lisa", 0), "truncated.jpg", ["decode_error"]).write_bytes(whole[: len(whole) // 2])
    become(first("lisa", 0), "empty.jpg", ["decode_error"]).write_bytes(b"")
    become(first("lisa", 0), "words.jpg", ["decode_error"]).write_text("not a picture at all\n" * 50)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    huge = become(first("lisa", 0), "huge.png", ["decode_error"])
    huge.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + end)
    become(first("lisa", 0), "gone.jpg", ["decode_error"]).symlink_to(photos / "lisa" / "nowhere.jpg")
    os.mkfifo(become(first("lisa", 0), "pipe.jpg", ["decode_error"]))
    if os.geteuid() != 0:  # root may read everything
        locked = become(first("lisa", 0), "locked.jpg", ["decode_error"])
        locked.write_bytes(whole)
        locked.chmod(0)

    # unusual, but photos
    old = first("alexachung", 0)
    Image.open(old).convert("CMYK").save(become(old, "cmyk.jpg"), quality=95)
    old.unlink()
    old = first("alexachung", 1)
    deep = cv2.imread(str(old)).astype(np.uint16) * 257
    cv2.imwrite(str(become(old, "sixteen.png")), deep)
    old.unlink()
    old = first("alexachung", 2)
    Image.open(old).convert("L").save(become(old, "grey.jpg"), quality=95)
    old.unlink()
    old = first("keanureeves", 0)
    turned = Image.open(old).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise by 90 degrees"
    turned.save(become(old, "turned.jpg"), quality=95, exif=exif)
    old.unlink()
    old = first("keanureeves", 1)
    frame = Image.open(old).convert("RGB")
    frame.save(
        become(old, "moving.webp"),
        save_all=True,
        append_images=[Image.new("RGB", frame.size)],
        duration=100,
        quality=95,
    )
    old.unlink()
    old = first("keanureeves", 2)
    old.rename(become(old, "ké änü 基努 (1).jpg"))
    (photos / "keanureeves" / "loop").symlink_to(photos / "keanureeves", target_is_directory=True)
    (photos / "keanureeves" / "notes.txt").write_text("not a photo, and does not say that it is one")

    # copies and strangers
    old = first("michelleyeoh", 0)
    shutil.copy(old, become(old, "zz-copy.jpg", ["duplicate_exact"]))
    old = first("michelleyeoh", 1)
    picture = Image.open(old)
    smaller = picture.resize((picture.width * 4 // 5, picture.height * 4 // 5), Image.Resampling.LANCZOS)
    smaller.save(become(old, "zz-smaller.jpg", ["duplicate_near"]), quality=70)
    for number, stranger in enumerate(sorted((shared / "faces" / "donnieyen").glob("*.jpg"))[2:5]):
        name = f"stranger-{number}.jpg"
        shutil.copy(stranger, become(first("michelleyeoh", 0), name, ["identity_outlier"]))
    return expected


def test_every_planted_fault_is_accepted_or_named(build: Build, shared: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    expected = plant_faults(shared, photos)
    before = tree(photos)
    there = [
        path for path in photos.glob("*/*") if path.suffix in (".jpg", ".png", ".webp") and "_mask" not in path.name
    ]
    manifest = build(real_config(shared, photos, tmp_path / "out"))

    rows = selection(tmp_path / "out")
    became = {name: "accepted" if rows[name]["accepted"] else rows[name]["reasons"] for name in expected}
    assert became == expected
    assert len(rows) == len(there) == manifest["counts"]["found"], "nothing is lost, nothing is seen twice"
    others = {name: row["reasons"] for name, row in rows.items() if name not in expected and not row["accepted"]}
    assert others == {}, "the faults of some must not touch the others"
    assert tree(photos) == before, "sources must never change"
    assert rows["michelleyeoh/zz-smaller.jpg"]["duplicate_of"] is not None
    feature = features(tmp_path / "out")
    why = feature[rows["lisa/huge.png"]["image_id"]]["error"]
    assert "900000000 pixels" in why and "data.max_pixels" in why
    assert abs(feature[rows["keanureeves/turned.jpg"]["image_id"]]["roll"]) < 30
    assert manifest["ignored"][".txt"] == 1


@pytest.mark.slow  # as test_build_dataset.py says of the tiny world
def test_two_builds_of_faulty_photos_are_equal(build: Build, shared: Path, tmp_path: Path) -> None:
    plant_faults(shared, tmp_path / "photos")
    for out in ("out", "again"):
        build(real_config(shared, tmp_path / "photos", tmp_path / out))
    assert content(tmp_path / "again") == content(tmp_path / "out")
