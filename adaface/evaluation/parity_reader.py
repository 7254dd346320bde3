"""Pictures as the original's evaluation looked at them, flaws included, to compare with numbers made by it.

From evaluation/eval_utils.py, clip_eval.py and vit_eval.py of AdaFace: pictures are squeezed to 256 x 256, for faces to
512 x 512, by taking the nearest pixel; CLIP's own resize runs on tensors without antialiasing; the "largest" face is the
one with the highest (x2 - x1) * y2 - y1, which prefers faces low in the picture. Faces are those of its engine
`insightface`; its other one, deepface, does not run with today's packages. What it drew had been saved as JPEG of PIL's
default quality 75 and was read back (stable_txt2img.py); the reference photos were read as they are.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from adaface.evaluation.clip_features import ClipFeatures
from adaface.evaluation.gallery import PARITY, Gallery
from adaface.evaluation.image_encoders import ImageEncoder

if TYPE_CHECKING:
    from adaface.perception.config import PerceptionConfig
    from adaface.perception.faces import Face

FACE = PARITY + "face"  # of `Gallery.embeddings`
CLIP = PARITY + "clip"  # of `Gallery.images`; the other encoders likewise
SIDE, FACE_SIDE = 256, 512  # px
QUALITY = 75  # of the JPEG files of what was drawn


class ParityReader:
    """The original's features: `Gallery.embeddings["parity_face"]`, `.images["parity_clip"]`, `.images["parity_dino"]`.

    Args:
        faces: which detector and recogniser; where and how often it looks for faces is the original's affair.
        clip: ViT-B/32 in the original.
        encoders: dino: facebook/dino-vits16 in the original. Each scales pictures by itself, from 256 x 256.
    """

    def __init__(self, faces: PerceptionConfig, clip: ClipFeatures | None, encoders: Mapping[str, ImageEncoder]):
        from adaface.perception.faces import FaceAnalyser

        once = {"detector_sizes": (FACE_SIDE,), "border": 0.0, "detection_threshold": 0.5}
        self._analyser = FaceAnalyser(faces.model_copy(update=once))
        self._clip, self._encoders = clip, encoders

    def read(self, images: Sequence[np.ndarray], *, photos: bool = False) -> Gallery:
        """RGB uint8 (H, W, 3) pictures of any sizes; `photos`: references, which have not been through our drawing."""
        if not photos:
            images = [as_saved(image) for image in images]
        small = [nearest(image, SIDE) for image in images]
        whole: dict[str, np.ndarray] = {}
        if self._clip is not None:
            whole[CLIP] = self._clip.images_by(small, clip_pixels)
        whole |= {PARITY + name: encoder.images(small) for name, encoder in self._encoders.items()}
        faces, boxes, embeddings = self._faces(images)
        return Gallery(faces, boxes, {FACE: embeddings}, whole)

    def _faces(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from adaface.perception.recogniser import align

        counts, rows, crops = np.zeros(len(images), np.int32), [], []
        boxes = np.full((len(images), 4), np.nan, np.float32)
        for row, image in enumerate(images):
            squeezed = nearest(image, FACE_SIDE)
            result = self._analyser.detect(squeezed)
            counts[row] = len(result.faces)
            if result.aligned is None:
                continue
            face = max(result.faces, key=original_key)
            rows.append(row)
            crops.append(align(squeezed, face.landmarks, result.aligned.shape[0]))
            boxes[row] = face.bbox * np.tile(np.array(image.shape[1::-1]) / FACE_SIDE, 2)
        raw = self._analyser.embed(crops)
        embeddings = np.zeros((len(images), raw.shape[1]), np.float32)
        embeddings[rows] = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), np.float32(1e-12))
        return counts, boxes, embeddings


def original_key(face: Face) -> float:
    """What the original sorts faces by, for their area: (x2 - x1) * y2 - y1."""
    x1, y1, x2, y2 = (float(value) for value in face.bbox)
    return (x2 - x1) * y2 - y1


def as_saved(image: np.ndarray) -> np.ndarray:
    """RGB uint8 (H, W, 3) -> the same after the original's JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    with Image.open(file) as saved:
        return np.asarray(saved.convert("RGB"))


def nearest(image: np.ndarray, side: int) -> np.ndarray:
    """RGB uint8 (H, W, 3) -> (side, side, 3), by the nearest pixel; the aspect is not kept."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST))


def clip_pixels(images: Sequence[np.ndarray], side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Square uint8 (S, S, 3) pictures -> float32 (N, 3, side, side): bicubic on tensors, neither smoothed nor clipped."""
    values = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    values = (values / 127.5 - 1 + 1) / 2  # by way of -1..1, as the original's data set gives them
    scaled = F.interpolate(values, size=(side, side), mode="bicubic", align_corners=False, antialias=False)
    shape = (1, 3, 1, 1)
    return (scaled - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
