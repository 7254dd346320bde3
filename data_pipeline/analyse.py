"""Phase 1: from image files to one row of features each, part by part. The only phase that runs networks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from adaface.perception.config import PerceptionConfig
from adaface.perception.faces import Face, FaceAnalyser, FaceResult, with_embedding
from adaface.perception.parsing import FaceParser, load_parser
from data_pipeline import measures
from data_pipeline.config import DataConfig
from data_pipeline.decode import DecodeError, decode_image, decode_mask, survives
from data_pipeline.metrics import face_metrics, face_seen, mask_metrics
from data_pipeline.plan import part_name, read_part_plan
from data_pipeline.schema import FEATURES, GIVEN
from data_pipeline.storage import Storage, read_file

# Raise it when the meaning of a feature changes: finished parts of older versions are then made again.
VERSION = 2
# Larger photos are reduced before detection, whose own input is far smaller still.
WORKING_PIXELS = 16_000_000


def analyse_hash(config: DataConfig, perception: PerceptionConfig, models: dict[str, str]) -> str:
    """What feature files depend on besides the images.

    Args:
        models: role -> sha256 of every model file used.
    """
    settings = {
        "version": VERSION,
        "perception": perception.what_it_computes(),
        "models": models,
        "image_size": config.image_size,
        "resize": config.resize,
        "max_pixels": config.max_pixels,
        "max_bytes": config.max_bytes,
        "part_size": config.part_size,
        "seed": config.seed,  # the order in which images are dealt to parts
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class _Sample:
    """One decoded image on its way through the networks: the full picture is already let go."""

    row: dict[str, Any]
    pixels: np.ndarray  # (S, S, 3) uint8 RGB, what will be stored
    face: FaceResult
    mask: np.ndarray | None = None  # (S, S) bool, the NAME_mask.png beside the image
    mask_is_given: bool = False


@dataclass
class PartAnalyser:
    """Analyses parts of a dataset; holds the networks, which are loaded at the first part.

    If workers died twice over a part, the next one decodes each of its images in a child process first, so that a file
    that crashes the decoder costs itself and not the job. Calling it with a part number writes
    `features/part-NNNNN.parquet` and returns how many images it held, when it began and ended (Unix time, models
    already loaded) and the most memory this process ever held. Bad images become rows; only faults of the machine (out
    of memory, storage gone) raise.
    """

    config: DataConfig
    perception: PerceptionConfig
    hash: str
    _faces: FaceAnalyser | None = field(default=None, init=False, repr=False)
    _parser: FaceParser | None = field(default=None, init=False, repr=False)
    _suspicious: bool = field(default=False, init=False, repr=False)

    def __call__(self, part: int) -> dict[str, float]:
        out = Storage(self.config.output)
        self._load()
        began = time.time()
        with self._attempt(out, part):
            rows = list(self.analyse(read_part_plan(out, part)))
            table = pa.Table.from_pylist(rows, schema=FEATURES.with_metadata({"analyse_hash": self.hash}))
            # Row groups bound the memory of whoever reads a few rows of a large part.
            out.write_table(part_name(part), table, row_group_size=256)
        return {"part": part, "images": len(rows), "began": began, "ended": time.time(), "rss_mb": peak_memory_mb()}

    @contextlib.contextmanager
    def _attempt(self, out: Storage, part: int) -> Iterator[None]:
        """Keeps on record that a part is being worked on; a record that is found was left by a process that died over
        it.

        One death may be anything, a killed job most of all. After the second the images themselves are suspected.
        """
        record = f"cache/attempt-{part:05d}"
        deaths = len(out.read_bytes(record)) if out.exists(record) else 0
        self._suspicious = deaths >= 2
        out.write_bytes(record, b"x" * (deaths + 1))
        try:
            yield
        finally:
            out.delete(record)

    def analyse(self, planned: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows of FEATURES for planned images, in their order."""
        self._load()
        batch: list[_Sample | dict[str, Any]] = []
        for item in self._samples(planned):
            batch.append(item)
            if len(batch) == self.perception.batch_size:
                yield from self._finish(batch)
                batch = []
        yield from self._finish(batch)

    def _load(self) -> None:
        if self._faces is not None:
            return
        cv2.setNumThreads(self.perception.threads)
        settings = self.perception
        self._faces = FaceAnalyser(settings)
        if settings.parser is not None:
            self._parser = load_parser(
                settings.parser, device=settings.device, threads=settings.threads, batch_size=settings.batch_size
            )

    def _samples(self, planned: list[dict[str, Any]]) -> Iterator[_Sample | dict[str, Any]]:
        """Decode one image ahead of the detector, so that a slow disk or store does not stop the networks."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead: Future | None = None
            for position, item in enumerate(planned):
                current = ahead if ahead is not None else reader.submit(self._read, item)
                ahead = reader.submit(self._read, planned[position + 1]) if position + 1 < len(planned) else None
                yield self._look(item, current.result())

    def _read(self, item: dict[str, Any]) -> tuple[Any, np.ndarray | None] | DecodeError:
        """The decoded picture and the mask beside it, or why there is none."""
        if item["error"]:
            return DecodeError(item["error"])
        config = self.config
        try:
            data = self._unchanged(item["path"], item["image_id"])
            if self._suspicious and (fatal := survives(data, config.max_pixels)):
                return DecodeError(fatal)
            decoded = decode_image(data, config.max_pixels)
        except DecodeError as error:
            return error
        mask = None
        if item["mask_path"]:
            try:
                data = self._unchanged(item["mask_path"], item["mask_id"].removeprefix(GIVEN))
                mask = decode_mask(data, config.max_pixels)
            except DecodeError as error:
                if item["mask_is_given"]:
                    return DecodeError(f"its mask {item['mask_path']}: {error}")
                return decoded, None  # a mask for comparison is simply not compared
            height, width = decoded.pixels.shape[:2]
            if mask.shape != (height, width):
                mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        return decoded, mask

    def _unchanged(self, path: str, sha256: str) -> bytes:
        """The bytes of a file as the scan saw them."""
        try:
            data = read_file(path, self.config.max_bytes)
        except ValueError as error:  # the bound was lowered since the scan
            raise DecodeError(str(error)) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise OSError(f"{path} changed while the dataset was being built; run the build again")
        return data

    def _look(
        self, item: dict[str, Any], read: tuple[Any, np.ndarray | None] | DecodeError
    ) -> _Sample | dict[str, Any]:
        """Everything that needs the full picture: detection, measures in the face box, the cut."""
        row = dict.fromkeys(FEATURES.names)
        row["image_id"], row["mask_id"] = item["image_id"], item["mask_id"]
        if isinstance(read, DecodeError):
            return {**row, "outcome": "decode_error", "error": str(read)}
        assert self._faces is not None
        decoded, mask = read
        pixels = decoded.pixels
        height, width = pixels.shape[:2]
        face = _detect(self._faces, pixels)
        bbox = face.faces[0].bbox if face.faces else None
        window = measures.square_window(width, height, bbox, self.config.resize)
        x0, y0, x1, y1 = window
        size = self.config.image_size
        sample = measures.resize_antialiased(pixels[y0:y1, x0:x1], size)
        row.update(
            outcome="analysed",
            format=decoded.format,
            mode=decoded.mode,
            orientation=decoded.orientation,
            width=width,
            height=height,
            crop=list(window),
            phash=measures.perceptual_hash(sample),
            n_faces=len(face.faces),
        )
        if face.faces:
            row.update(face_metrics(face, pixels, window, size))
        if mask is not None:
            mask = cv2.resize(mask[y0:y1, x0:x1].astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
        return _Sample(row, sample, face, mask, item["mask_is_given"])

    def _finish(self, batch: list[_Sample | dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Recognition and parsing, batched over images."""
        assert self._faces is not None
        samples = [item for item in batch if isinstance(item, _Sample)]
        with_face = [sample for sample in samples if sample.face.faces]
        raw = self._faces.embed([sample.face.aligned for sample in with_face if sample.face.aligned is not None])
        for sample, vector in zip(with_face, raw, strict=True):
            face = with_embedding(sample.face, vector)
            sample.row["embedding_norm"], sample.row["embedding"] = face.embedding_norm, face.embedding
        parts = self._parser.parse(np.stack([s.pixels for s in samples])) if self._parser and samples else None
        for index, sample in enumerate(samples):
            row = sample.row
            row.update(mask_metrics(None if parts is None else parts[index], sample.mask, sample.mask_is_given))
            if parts is not None and row["bbox"] is not None:
                row["face_seen"] = face_seen(parts[index], row["bbox"], row["crop"])
        for item in batch:
            yield item.row if isinstance(item, _Sample) else item


def _detect(faces: FaceAnalyser, pixels: np.ndarray) -> FaceResult:
    """Detection on at most WORKING_PIXELS: a 100 megapixel photo needs gigabytes otherwise, and shows no other
    face."""
    height, width = pixels.shape[:2]
    factor = int(np.ceil(np.sqrt(height * width / WORKING_PIXELS)))
    if factor <= 1:
        return faces.detect(pixels)
    small = cv2.resize(pixels, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    found = faces.detect(small)
    back = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
    scaled = [Face(face.bbox * np.tile(back, 2), face.score, face.landmarks * back) for face in found.faces]
    return replace(found, faces=scaled)


def peak_memory_mb() -> float:
    """The most memory this process has ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
