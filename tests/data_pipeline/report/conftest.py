"""A small dataset folder with drawn faces, written by hand to the schema: no model, no job."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, ImageDraw

from adaface.perception.classes import CLASS_NAMES
from data_pipeline.config import DataConfig
from data_pipeline.reasons import REASONS
from data_pipeline.schema import FEATURES, IDENTITIES, SELECTION, SOURCE

SIDE = 96  # px of source pictures and of masks
ID_DIM = 8
PART_SIZE = 64
NASTY = '<script>alert("x")</script> & co.jpg'.replace("/", "")


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    """The function `write`, below."""
    return write


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 240 images in which every reason occurs."""
    return write(tmp_path_factory.mktemp("dataset") / "faces", images=240)


def write(
    out: Path,
    *,
    images: int = 200,
    identities: int = 9,
    parser: bool = True,
    flat: bool = False,
    reasons: tuple[str, ...] = tuple(REASONS),
    reject_all: bool = False,
    runs: int = 2,
    overrides: dict[str, Any] | None = None,
) -> Path:
    """Write `out` and, beside it, `<out>-photos` with the pictures.

    Args:
        out: dataset folder to make.
        images: rows of source.parquet.
        identities: folders of photos.
        parser: whether masks and class maps exist.
        flat: everyone in one folder, no identity known.
        reasons: reasons that occur, in turn, on two images of five.
        reject_all: no image is accepted.
        runs: records in runs/.
        overrides: keys of the `data:` section.
    """
    photos = out.with_name(out.name + "-photos")
    config = _config(photos, out, flat, parser, overrides or {})
    rng = np.random.default_rng(7)
    pictures = _Pictures(photos, rng)
    source: list[dict[str, Any]] = []
    features: list[dict[str, Any]] = []
    selection: list[dict[str, Any]] = []
    # Every reason twice before the pattern starts, so that small datasets hold all of them.
    for i in range(images):
        rejected = bool(reasons) and (reject_all or i % 5 in (1, 3))
        row_reasons = (
            [reasons[(2 * (i // 5) + (i % 5 == 3)) % len(reasons)] if i < 10 * len(reasons) else "blurry"]
            if rejected
            else []
        )
        row_reasons = [reason for reason in row_reasons if reason in reasons] or ([reasons[0]] if rejected else [])
        if rejected and i % 20 == 3:
            row_reasons = [reason for reason in REASONS if reason in {*row_reasons, *reasons[-1:]}]
        identity = None if flat else f"photos/person{i % identities:03d}"
        name = NASTY if i == 1 else f"img{i:05d}.jpg"
        path, image_id, size = pictures.write(identity, name, broken="decode_error" in row_reasons)
        measured = _measure(i, row_reasons, config["data"], parser, pictures, rng)
        source.append(
            {
                "image_id": image_id,
                "source": "photos",
                "path": path,
                "identity": identity,
                "licence": "CC-BY-4.0 <free>",
                "bytes": size,
                "mask_is_given": False,
            }
        )
        features.append({"image_id": image_id, **measured})
        similarity = 0.4 if "identity_outlier" in row_reasons else float(rng.uniform(0.66, 0.95))
        near = next((row["path"] for row in selection if row["identity"] == identity and row["accepted"]), None)
        selection.append(
            {
                "image_id": image_id,
                "source": "photos",
                "path": path,
                "identity": identity,
                "accepted": not row_reasons,
                "reasons": row_reasons,
                "identity_similarity": None if flat else similarity,
                "nearest_identity": None if flat else f"photos/person{(i + 1) % identities:03d}",
                "nearest_similarity": None if flat else float(rng.normal(0.1, 0.08)),
                "duplicate_of": near if {"duplicate_near", "duplicate_exact"} & {*row_reasons} else None,
                "key": None if row_reasons else f"{i:08d}",
                "shard": None if row_reasons else 0,
            }
        )
    people = [] if flat else _people(selection, features, rng)
    (out / "features").mkdir(parents=True)
    (out / "runs").mkdir()
    (out / "report").mkdir()
    for part, start in enumerate(range(0, len(features), PART_SIZE)):
        rows = features[start : start + PART_SIZE]
        pq.write_table(pa.Table.from_pylist(rows, FEATURES), out / "features" / f"part-{part:05d}.parquet")
    pq.write_table(pa.Table.from_pylist(source, SOURCE), out / "source.parquet")
    pq.write_table(pa.Table.from_pylist(selection, SELECTION), out / "selection.parquet")
    pq.write_table(pa.Table.from_pylist(people, IDENTITIES), out / "identities.parquet")
    (out / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (out / "dataset.json").write_text(json.dumps(_summary(selection, people, config)))
    for run in range(runs):
        (out / "runs" / f"20250101T00000{run}Z.json").write_text(json.dumps(_run(run, images)))
    return out


def _config(photos: Path, out: Path, flat: bool, parser: bool, overrides: dict[str, Any]) -> dict[str, Any]:
    layout = "flat" if flat else "identities"
    source = {"path": str(photos), "layout": layout, "name": "photos", "licence": "CC-BY-4.0 <free>"}
    data = DataConfig.model_validate({"sources": [source], "output": str(out), "image_size": SIDE, **overrides})
    perception = {
        "pack": "models/pack",
        "detector_sizes": [640, 320, 160],
        "border": 0.25,
        "detection_threshold": 0.5,
        "parser": {"kind": "bisenet", "file": "models/parser.pth"} if parser else None,
    }
    return {"data": data.model_dump(mode="json"), "perception": perception, "cluster": {"workers": 2}}


class _Pictures:
    """Drawn faces on disk, and a few masks and class maps that fit them."""

    def __init__(self, folder: Path, rng: np.random.Generator):
        self._folder = folder
        self._rng = rng
        self._count = 0
        self.mask, self.parts, self.pixels = self._labels()

    def write(self, identity: str | None, name: str, broken: bool) -> tuple[str, str, int]:
        folder = self._folder / identity.split("/")[1] if identity else self._folder
        folder.mkdir(parents=True, exist_ok=True)
        self._count += 1
        data = b"not an image %d" % self._count if broken else self._draw()
        (folder / name).write_bytes(data)
        return str(folder / name), hashlib.sha256(data).hexdigest(), len(data)

    def _draw(self) -> bytes:
        hue = self._rng.integers(40, 220, 3)
        image = Image.new("RGB", (SIDE + 20 * (self._count % 3), SIDE), tuple(int(v) for v in hue))
        draw = ImageDraw.Draw(image)
        skin = tuple(int(v) for v in self._rng.integers(120, 235, 3))
        draw.ellipse((22, 12, 74, 60), fill=(60, 40, 30))
        draw.ellipse((26, 20, 70, 80), fill=skin)
        for x in (38, 58):
            draw.ellipse((x - 4, 42, x + 4, 48), fill=(250, 250, 250))
            draw.ellipse((x - 2, 43, x + 2, 47), fill=(30, 60, 90))
        draw.line((48, 46, 46, 58), fill=(90, 60, 50), width=2)
        draw.arc((38, 58, 58, 70), 20, 160, fill=(150, 40, 50), width=3)
        draw.point((0, 0), fill=(self._count % 256, self._count // 256 % 256, 0))
        out = io.BytesIO()
        image.save(out, "PNG")
        return out.getvalue()

    @staticmethod
    def _labels() -> tuple[bytes, bytes, list[int]]:
        classes = Image.new("L", (SIDE, SIDE), 0)
        draw = ImageDraw.Draw(classes)
        draw.rectangle((14, 84, 82, SIDE), fill=16)
        draw.rectangle((38, 70, 58, 88), fill=14)
        draw.ellipse((22, 12, 74, 60), fill=17)
        draw.ellipse((26, 20, 70, 80), fill=1)
        for class_id, box in {
            2: (32, 36, 44, 39),
            3: (52, 36, 64, 39),
            4: (34, 42, 42, 48),
            5: (54, 42, 62, 48),
        }.items():
            draw.ellipse(box, fill=class_id)
        for class_id, box in {10: (43, 46, 51, 58), 12: (40, 62, 56, 65), 13: (40, 66, 56, 69)}.items():
            draw.ellipse(box, fill=class_id)
        array = np.asarray(classes)
        pixels = np.bincount(array.ravel(), minlength=len(CLASS_NAMES)).tolist()
        return _png(((array > 0) * 255).astype(np.uint8)), _png(array), pixels


def _png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def _measure(
    i: int, reasons: list[str], rules: dict[str, Any], parser: bool, pictures: _Pictures, rng: np.random.Generator
) -> dict[str, Any]:
    if "decode_error" in reasons:
        return {"outcome": "decode_error", "error": f"not an image of a known format <{i}>"}
    small = "too_small" in reasons
    row: dict[str, Any] = {
        "outcome": "analysed",
        "format": "PNG",
        "width": 120 if small else int(rng.integers(300, 2400)),
        "height": 130 if small else int(rng.integers(300, 2400)),
        "crop": [0, 0, SIDE, SIDE],
        "phash": int(rng.integers(-(2**63), 2**63 - 1)),
        "n_faces": 0,
    }
    if parser:
        few, many = "too_few_parts" in reasons, "too_many_parts" in reasons
        row |= {
            "n_parts": int(rng.integers(3, 10)) if few else 18 if many else int(rng.integers(10, 18)),
            "part_pixels": pictures.pixels,
            "face_seen": 0.1 if "occluded" in reasons else 0.7,
            "foreground": float(rng.uniform(0.3, 0.7)),
            "mask": pictures.mask,
            "parts": pictures.parts,
        }
    if "no_face" in reasons:
        return row
    embedding = rng.normal(size=ID_DIM)
    yaw = float(rng.normal(0, 20))
    return row | {
        "n_faces": 2 if "multi_face" in reasons else 1,
        "det_score": float(rng.uniform(0.5, 0.6) if "low_det_score" in reasons else rng.uniform(0.62, 0.95)),
        "detector_size": 640,
        "border": 0.0,
        "bbox": [24.0, 14.0, 72.0, 82.0],
        "landmarks": [38.0, 45.0, 58.0, 45.0, 46.0, 58.0, 40.0, 64.0, 56.0, 64.0],
        "second_face": 0.8 if "multi_face" in reasons else 0.0,
        "face_share": float(rng.uniform(0.1, 0.6)),
        "face_pixels": float(rng.uniform(20, 63) if "small_face" in reasons else rng.uniform(70, 400)),
        "inter_ocular": 20.0,
        "yaw": 75.0 if "extreme_pose" in reasons else max(-59.0, min(59.0, yaw)),
        "pitch": float(rng.normal(0, 10)),
        "roll": float(rng.normal(0, 8)),
        "sharpness": float(rng.uniform(1, 14) if "blurry" in reasons else 10 ** rng.uniform(1.3, 3.6)),
        "exposure": float(rng.uniform(0.2, 0.8)),
        "clipped": 0.7 if "bad_exposure" in reasons else 0.01,
        "embedding_norm": float(rng.normal(20, 3)),
        "embedding": (embedding / np.linalg.norm(embedding)).tolist(),
    }


def _people(selection: list[dict], features: list[dict], rng: np.random.Generator) -> list[dict[str, Any]]:
    found: Counter[str] = Counter(row["identity"] for row in selection)
    faces: Counter[str] = Counter(
        row["identity"]
        for row, measured in zip(selection, features, strict=True)
        if measured.get("embedding") is not None
    )
    accepted: Counter[str] = Counter(row["identity"] for row in selection if row["accepted"])
    names = sorted(found)
    return [
        {
            "identity": name,
            "source": "photos",
            "images": found[name],
            "faces": faces[name],
            "accepted": accepted[name],
            "person_type": "woman" if place % 2 else "man",
            "det_score": float(rng.uniform(0.5, 0.9)),
            "consistency": float(rng.uniform(0.6, 0.9)) if accepted[name] else None,
            "nearest_identity": names[place - 1],
            "nearest_similarity": float(rng.uniform(0, 0.5)),
            "mean_embedding": [1.0] + [0.0] * (ID_DIM - 1),
        }
        for place, name in enumerate(names)
    ]


def _summary(selection: list[dict], people: list[dict], config: dict[str, Any]) -> dict[str, Any]:
    accepted = sum(row["accepted"] for row in selection)
    licence = config["data"]["sources"][0]["licence"]
    return {
        "format": "adaface-dataset/1",
        "counts": {
            "found": len(selection),
            "accepted": accepted,
            "rejected": len(selection) - accepted,
            "identities": len(people),
            "identities_accepted": sum(person["accepted"] > 0 for person in people),
            "shards": int(accepted > 0),
            "shard_bytes": 41_000 * accepted,
            "ignored_files": 5,
        },
        "reasons": dict(Counter(reason for row in selection for reason in row["reasons"])),
        "sources": [
            {
                "name": "photos",
                "layout": config["data"]["sources"][0]["layout"],
                "licence": licence,
                "images": len(selection),
                "accepted": accepted,
            }
        ],
        "ignored": {".txt": 3, ".<b>": 2},
        "config": config,
        "config_hash": "c0ffee" * 4,
        "hashes": {"analyse": "a" * 16, "select": "b" * 16, "shard": "c" * 16},
        "models": {
            "detection": {"file": "det.onnx", "sha256": "d" * 64},
            "recognition": {"file": "rec.onnx", "sha256": "e" * 64},
        },
        "licences": {licence: accepted},
        "id_dim": ID_DIM,
        "shards": [],
    }


def _run(run: int, images: int) -> dict[str, Any]:
    first = run == 0
    return {
        "started": f"2025-01-01T00:00:0{run}Z",
        "finished": f"2025-01-01T00:10:0{run}Z",
        "seconds": {
            "scan": 0.8,
            "analyse": 50.0 if first else 0.1,
            "select": 0.4,
            "shard": 5.0 if first else 0.1,
            "report": 2.0,
        },
        "work": {
            "scanned": images,
            "analysed": images if first else 0,
            "selected": images,
            "sharded": images // 2 if first else 0,
        },
        "versions": {"python": "3.11.9", "pyarrow": "1.2.3"},
        "workers": 2,
    }
