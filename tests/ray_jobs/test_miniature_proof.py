"""Decisions about a rendered album against its truth; the networks are replaced by the truth itself.

An analysis that sees every face, outline and person as they are shows that the album's faults are what the thresholds
of configs/miniature.yaml look for; one decision or mask that is tampered with shows that the proof looks at it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from adaface.miniature.album.plan import FAULTS, AlbumSize
from adaface.miniature.album.write import read_truth, write_album
from adaface.perception.faces import Face, FaceResult
from data_pipeline import measures
from data_pipeline.config import DataConfig
from data_pipeline.decode import DecodeError, decode_image
from data_pipeline.metrics import face_metrics, face_seen, mask_metrics
from data_pipeline.reasons import REASONS
from data_pipeline.schema import FEATURES
from data_pipeline.select import select
from data_pipeline.sources import hash_images, list_images, source_table
from data_pipeline.storage import Storage
from ray_jobs import miniature_proof
from ray_jobs.config import DatasetConfig
from ray_jobs.config_file import load
from ray_jobs.miniature_proof import RIGHT_REASONS, Proof, main, prove

SIZE = AlbumSize(identities=6, images=12, faults=0.4, flat=16, seed=1)
# Five points of an aligned face (Deng et al. 2019).
TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]], np.float32)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "my album"
    write_album(folder, SIZE)
    return folder


@pytest.fixture(scope="module")
def config(album: Path, project: Path) -> DataConfig:
    overrides = [f"data.sources.{n}.path='{album / name}'" for n, name in enumerate(("people", "flat"))]
    return load(
        DatasetConfig, project / "configs/miniature.yaml", [*overrides, f"data.output='{album.parent / 'out'}'"]
    ).data


@pytest.fixture(scope="module")
def tables(album: Path, config: DataConfig) -> tuple[pa.Table, pa.Table]:
    """SOURCE and FEATURES of the album, as seen by somebody who knows."""
    images = list_images(config).images
    hashes = {row["stamp"]: row for row in hash_images(images, config.max_bytes)}
    source = source_table(images, hashes)
    truth = {str(album / row["path"]): row for row in read_truth(album)}
    rows = {row["image_id"]: known(album, truth[row["path"]], row["image_id"], config) for row in source.to_pylist()}
    return source, pa.Table.from_pylist(list(rows.values()), schema=FEATURES)


def known(album: Path, truth: dict[str, Any], image_id: str, config: DataConfig) -> dict[str, Any]:
    """One row of FEATURES: what networks would see comes from the truth, what is measured from the file."""
    row: dict[str, Any] = dict.fromkeys(FEATURES.names) | {"image_id": image_id}
    try:
        decoded = decode_image((album / truth["path"]).read_bytes(), config.max_pixels)
    except DecodeError as error:
        return row | {"outcome": "decode_error", "error": str(error)}
    pixels = decoded.pixels
    height, width = pixels.shape[:2]
    assert (width, height) == (truth["width"], truth["height"])
    faces = [Face(np.float32(f["box"]), 0.9, np.float32(f["landmarks"])) for f in truth["faces"]]
    faces.sort(key=lambda face: -face.area)
    window = measures.square_window(width, height, faces[0].bbox if faces else None, config.resize)
    x0, y0, x1, y1 = window
    size = config.image_size
    sample = measures.resize_antialiased(pixels[y0:y1, x0:x1], size)
    classes = cv2.imread(str(album / truth["class_map"]), cv2.IMREAD_GRAYSCALE)[y0:y1, x0:x1]
    parts = cv2.resize(classes, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    row |= mask_metrics(parts, None, False)
    row |= {"outcome": "analysed", "width": width, "height": height, "crop": list(window), "n_faces": len(faces)}
    row |= {"phash": measures.perceptual_hash(sample), "mode": decoded.mode, "format": decoded.format}
    if faces:
        matrix, _ = cv2.estimateAffinePartial2D(faces[0].landmarks, TEMPLATE, method=cv2.LMEDS)
        aligned = cv2.warpAffine(pixels, matrix, (112, 112))
        result = replace(FaceResult(faces, 640, 0.0), aligned=aligned)
        row |= face_metrics(result, pixels, window, size)
        row |= {"face_seen": face_seen(parts, row["bbox"], list(window)), "embedding_norm": 20.0}
        row |= {"embedding": embedding(truth["person"], truth["nuisance"]["seed"])}
    return row


def embedding(person: str, picture: int) -> list[float]:
    """Near one direction for each person, 64 numbers; copies of a picture have the same."""
    own = np.random.default_rng(list(person.encode())).normal(size=64)
    vector = own / np.linalg.norm(own) + np.random.default_rng(picture).normal(size=64) * 0.06
    return (vector / np.linalg.norm(vector)).tolist()


@pytest.fixture
def dataset(tables: tuple[pa.Table, pa.Table], config: DataConfig, tmp_path: Path) -> Path:
    source, features = tables
    return written(tmp_path / "dataset", source, features, config)


def written(folder: Path, source: pa.Table, features: pa.Table, config: DataConfig) -> Path:
    out = Storage(str(folder))
    out.write_table("features/part-00000.parquet", features)
    out.write_table("selection.parquet", select(source, features, config, np.zeros((0, 64), np.float32)).images)
    out.write_json("dataset.json", {})
    return folder


def line(proof: Proof, kind: str) -> miniature_proof.Line:
    return next(line for line in proof.lines if line.kind == kind)


def test_every_fault_has_its_reason():
    assert set(RIGHT_REASONS) == set(FAULTS)
    assert {reason for reasons in RIGHT_REASONS.values() for reason in reasons} <= set(REASONS)


def test_who_sees_everything_reaches_every_bar(album, dataset):
    proof = prove(album, str(dataset))
    assert {line.kind for line in proof.lines} == {"good", *FAULTS}
    assert sum(line.photos for line in proof.lines) == SIZE.files
    assert proof.passed, str(proof)
    assert proof.mask_iou.min() > 0.99
    assert main([str(album), str(dataset)]) == 0


def tamper(dataset: Path, change: dict[str, dict[str, Any]]) -> None:
    """Overwrite columns of some rows of the selection, by the end of their path."""
    out = Storage(str(dataset))
    table = out.read_table("selection.parquet")
    rows = [
        row | next((new for end, new in change.items() if row["path"].endswith(end)), {}) for row in table.to_pylist()
    ]
    out.write_table("selection.parquet", pa.Table.from_pylist(rows, schema=table.schema))


@pytest.mark.parametrize("kind", ["no_face", "wrong_person", "broken", "occluded"])
@pytest.mark.parametrize(
    "decision", [{"accepted": True, "reasons": []}, {"accepted": False, "reasons": ["too_small"]}]
)
def test_a_fault_that_is_accepted_or_rejected_for_another_reason_misses_the_bar(
    album, dataset, kind, decision, capsys
):
    victim = next(row["path"] for row in read_truth(album) if row["kind"] == kind)
    tamper(dataset, {victim: decision})
    proof = prove(album, str(dataset))
    assert not proof.passed and not line(proof, kind).passed
    assert [one.kind for one in proof.lines if not one.passed] == [kind]
    assert any(victim in mistake for mistake in proof.mistakes)
    assert main([str(album), str(dataset)]) == 1
    assert "MISSED" in capsys.readouterr().out


def test_good_photos_that_are_rejected_miss_the_bar(album, dataset):
    good = [row["path"] for row in read_truth(album) if row["kind"] == "good"][:3]
    tamper(dataset, {path: {"accepted": False, "reasons": ["blurry"]} for path in good})
    proof = prove(album, str(dataset))
    assert not line(proof, "good").passed and line(proof, "blurred").passed


@pytest.mark.parametrize("kind", ["exact_duplicate", "near_duplicate"])
def test_of_a_photo_and_its_copy_one_must_stay(album, dataset, kind):
    copy = next(row for row in read_truth(album) if row["kind"] == kind)
    reason = f"duplicate_{kind.removesuffix('_duplicate')}"
    kept, dropped = {"accepted": True, "reasons": []}, {"accepted": False, "reasons": [reason]}
    tamper(dataset, {copy["path"]: kept, copy["copy_of"]: dropped})
    assert prove(album, str(dataset)).passed, "it does not matter which"
    tamper(dataset, {copy["path"]: kept, copy["copy_of"]: kept})
    assert [one.kind for one in prove(album, str(dataset)).lines if not one.passed] == [kind]


def test_a_wrong_mask_misses_the_bar(album, tables, config, tmp_path):
    source, features = tables
    blank = cv2.imencode(".png", np.full((256, 256), 255, np.uint8))[1].tobytes()
    rows = [row | ({"mask": blank} if row["mask"] else {}) for row in features.to_pylist()]
    dataset = written(tmp_path / "dataset", source, pa.Table.from_pylist(rows, schema=FEATURES), config)
    proof = prove(album, str(dataset))
    assert all(line.passed for line in proof.lines) and not proof.masks_passed and not proof.passed


def test_what_cannot_be_compared_is_said(album, dataset, tmp_path, capsys):
    with pytest.raises(ValueError, match="not an album"):
        prove(tmp_path, str(dataset))
    with pytest.raises(ValueError, match="not a finished dataset"):
        prove(album, str(tmp_path / "nothing"))
    other = tmp_path / "another album"
    write_album(other, AlbumSize(identities=1, images=2, faults=0, flat=0))
    assert main([str(other), str(dataset)]) == 2
    assert "no decision about 2 of the 2 photos" in capsys.readouterr().err
