"""Faces in pictures: boxes, landmarks and the ID embedding of the largest face, by an insightface model pack."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from adaface.perception.config import PerceptionConfig
from adaface.perception.pack import resolve_pack

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Face:
    """One face that the detector found."""

    bbox: np.ndarray  # (4,) float32: x1, y1, x2, y2, px of the source picture; may reach over its edge
    score: float  # 0..1
    landmarks: np.ndarray  # (5, 2) float32, px: left eye, right eye, nose, mouth corners, as seen in the picture

    @property
    def area(self) -> float:
        """Square px. Not the original's sort key, (x2 - x1) * y2 - y1, which prefers faces low in the picture."""
        x1, y1, x2, y2 = (float(value) for value in self.bbox)
        return (x2 - x1) * (y2 - y1)


@dataclass(frozen=True, eq=False)
class FaceResult:
    """What is known about one picture. Everything after `faces` is about the largest face, and None without one."""

    faces: list[Face] = field(default_factory=list)  # by area, largest first
    detector_size: int | None = None  # rung of the retry ladder that found them, px
    border: float | None = None  # 0, or the share of each side that had to be added around the picture
    aligned: np.ndarray | None = None  # (S, S, 3) uint8 RGB, turned and scaled to the ArcFace template, usually 112 px
    embedding: np.ndarray | None = None  # (D,) float32, unit norm
    embedding_norm: float | None = None  # of the raw embedding: low for blurred, hidden or unreal faces
    gender: int | None = None  # 0 female, 1 male; None without an attribute model
    age: int | None = None  # years


class FaceAnalyser:
    """Detection, alignment, ID embedding and, where the pack has it, gender and age.

    Loads only the models it runs; the landmark models of a pack are never among them. Takes RGB; insightface wants BGR
    and gets it here and nowhere else (the original's inference fed it RGB by mistake, and so got other embeddings than
    its training did).

    Attributes: `id_dim` D of the embeddings, `files` {role: path} of the models loaded.
    Raises FileNotFoundError and ValueError for packs and devices that cannot be used.
    """

    def __init__(self, config: PerceptionConfig):
        pack = resolve_pack(config.pack, config.recognition_file)
        roles = ["detection", "recognition"] + (
            ["genderage"] if config.attributes and "genderage" in pack.files else []
        )
        self.config = config
        self.files: dict[str, Path] = {role: pack.files[role] for role in roles}
        models = {role: _load(path, config) for role, path in self.files.items()}
        self._recogniser, self._attributes = models["recognition"], models.get("genderage")
        self._ladder = _Ladder(models["detection"], config)
        self._batch, self.id_dim = _probe(self._recogniser, config.batch_size)

    def analyse(self, images: Sequence[np.ndarray]) -> list[FaceResult]:
        """One result per picture; each picture is RGB uint8 (H, W, 3) of any size.

        Pictures are detected one by one; the aligned faces of all of them are embedded in batches of
        `config.batch_size`.
        """
        found = [self.detect(image) for image in images]
        raw = iter(self.embed([result.aligned for result in found if result.aligned is not None]))
        return [result if result.aligned is None else with_embedding(result, next(raw)) for result in found]

    def detect(self, image: np.ndarray) -> FaceResult:
        """Everything about one RGB uint8 (H, W, 3) picture but the embedding, for callers that batch by themselves."""
        bgr = _bgr(image)
        faces, size, border = self._ladder.climb(bgr)
        if not faces:
            return FaceResult()
        gender, age = self._gender_age(bgr, faces[0])
        aligned = np.ascontiguousarray(self._align(bgr, faces[0])[:, :, ::-1])
        return FaceResult(faces, size, border, aligned, gender=gender, age=age)

    def embed(self, aligned: Sequence[np.ndarray]) -> np.ndarray:
        """Raw embeddings (N, D) float32, not yet of unit norm, of aligned RGB uint8 (S, S, 3) faces."""
        crops = [np.ascontiguousarray(face[:, :, ::-1]) for face in aligned]
        rows = [self._recogniser.get_feat(crops[i : i + self._batch]) for i in range(0, len(crops), self._batch)]
        return np.concatenate(rows).astype(np.float32) if rows else np.empty((0, self.id_dim), np.float32)

    def _align(self, bgr: np.ndarray, face: Face) -> np.ndarray:
        from insightface.utils import face_align

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # scikit-image's, about a call inside insightface
            return face_align.norm_crop(bgr, landmark=face.landmarks, image_size=self._recogniser.input_size[0])

    def _gender_age(self, bgr: np.ndarray, face: Face) -> tuple[int | None, int | None]:
        if self._attributes is None:
            return None, None
        from insightface.app.common import Face as InsightFace

        gender, age = self._attributes.get(bgr, InsightFace(bbox=face.bbox))
        return int(gender), int(age)


class _Ladder:
    """Tries the detector on ever smaller pictures, then on the same sizes with a border, until it finds a face.

    A face that fills the picture is larger than any anchor of the detector: shrinking the picture helps, and so does a
    border, which gives a tight portrait the surroundings that detectors were trained with. The border is black: on
    portraits cut at the face box it finds more faces than repeating the edge pixels does.
    """

    def __init__(self, detector: Any, config: PerceptionConfig):
        if not detector.use_kps:
            raise ValueError(
                f"{detector.model_file} finds no landmarks, which alignment needs; use a detector with key points"
            )
        self.detector = detector
        self.threshold = config.detection_threshold
        # (width, height) of a detector whose input size is fixed
        self.canvas: tuple[int, int] | None = detector.static_input_size
        sizes = config.detector_sizes
        if self.canvas:  # such a detector sees nothing larger than its canvas, so larger rungs would repeat its own
            sizes = tuple(dict.fromkeys(min(size, max(self.canvas)) for size in sizes))
        borders = (0.0, config.border) if config.border else (0.0,)
        self.rungs = [(size, border) for border in borders for size in sizes]

    def climb(self, bgr: np.ndarray) -> tuple[list[Face], int | None, float | None]:
        """Faces by area (largest first), detector size and border of the rung that found them."""
        for size, border in self.rungs:
            faces = self._detect(bgr, size, border)
            if faces:
                return sorted(faces, key=lambda face: face.area, reverse=True), size, border
        return [], None, None

    def _detect(self, bgr: np.ndarray, size: int, border: float) -> list[Face]:
        import cv2

        height, width = bgr.shape[:2]
        if size * min(height, width) < max(height, width):
            return []  # a sliver, less than a pixel wide at this size, which insightface's resize does not survive
        left, top = round(width * border), round(height * border)
        if border:
            bgr = cv2.copyMakeBorder(bgr, top, top, left, left, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        boxes, landmarks = self._detect_at(bgr, size)
        offset = np.array([left, top], dtype=np.float32)
        faces = []
        for box, points in zip(boxes, landmarks, strict=True):
            face = Face(box[:4] - np.tile(offset, 2), float(box[4]), points.astype(np.float32) - offset)
            x, y = (face.bbox[:2] + face.bbox[2:]) / 2
            if not border or (0 <= x < width and 0 <= y < height):
                faces.append(face)
        return faces

    def _detect_at(self, bgr: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes with score (N, 5) and landmarks (N, 5, 2) in px of `bgr`."""
        import cv2

        if self.canvas is None:
            return self.detector.detect(bgr, input_size=(size, size), det_thresh=self.threshold)
        if size >= max(self.canvas):
            return self.detector.detect(bgr, det_thresh=self.threshold)
        # A detector of fixed input size: shrink the picture itself and leave the rest of the canvas black.
        height, width = bgr.shape[:2]
        box_width, box_height = (min(size, side) for side in self.canvas)
        scale = min(box_width / width, box_height / height)
        small = cv2.resize(bgr, (max(1, int(width * scale)), max(1, int(height * scale))))
        canvas = np.zeros((self.canvas[1], self.canvas[0], 3), dtype=np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        boxes, landmarks = self.detector.detect(canvas, det_thresh=self.threshold)
        back = np.array([width / small.shape[1], height / small.shape[0]], dtype=np.float32)
        return np.concatenate([boxes[:, :4] * np.tile(back, 2), boxes[:, 4:]], axis=1), landmarks * back


def with_embedding(result: FaceResult, raw: np.ndarray) -> FaceResult:
    """The result with its raw embedding (D,) brought to unit norm."""
    norm = float(np.linalg.norm(raw))
    return replace(result, embedding=(raw / max(norm, 1e-12)).astype(np.float32), embedding_norm=norm)


def _bgr(image: np.ndarray) -> np.ndarray:
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or not image.size
    ):
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a picture must be RGB uint8 (H, W, 3), got {what}")
    return np.ascontiguousarray(image[:, :, ::-1])


def _load(path: Path, config: PerceptionConfig) -> Any:
    """An insightface model on the configured device."""
    from adaface.perception.onnx_session import check_device, providers, session_options

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside insightface and what it imports
        from insightface.model_zoo import get_model

        model = get_model(str(path), providers=providers(config.device), sess_options=session_options(config.threads))
    check_device(model.session, config.device, str(path))
    return model


def _probe(recogniser: Any, batch_size: int) -> tuple[int, int]:
    """(faces per run, D), found by running the model: exports often declare shapes that they do not keep."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    from adaface.perception.onnx_session import batch_limit

    limit = batch_limit(recogniser.session)
    if limit not in (None, 1):
        raise ValueError(
            f"{recogniser.model_file} takes exactly {limit} faces at a time; use an export with a dynamic batch or of 1"
        )
    blank = np.zeros((*recogniser.input_size[::-1], 3), dtype=np.uint8)
    id_dim = int(recogniser.get_feat([blank]).size)
    if batch_size == 1 or limit == 1:
        return 1, id_dim
    try:
        batched = recogniser.get_feat([blank, blank]).shape == (2, id_dim)
    except (errors.InvalidArgument, errors.Fail, errors.RuntimeException) as error:
        log.debug("%s: %s", recogniser.model_file, error)
        batched = False
    if not batched:
        log.info("%s takes one face at a time", recogniser.model_file)
    return (batch_size if batched else 1), id_dim
