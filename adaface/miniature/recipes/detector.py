"""The detector: scores by fit, GIoU and key points, on rendered photographs."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaface.miniature.measure.detection import measure, open_detector
from adaface.miniature.networks.detector import (
    Detector,
    concatenated,
    decode_boxes,
    encode_boxes,
    encode_points,
    export_detector,
    load_detector,
    places,
)
from adaface.miniature.pictures.detector_photos import load_photos
from adaface.miniature.pictures.detector_views import Source, view
from adaface.miniature.training import Schedule, Task
from adaface.models.precision import autocast

# Of the training pictures, px. A small one costs a quarter of one that is twice as wide and shows a face as well.
_SIDES = (128, 160, 224, 320)
_ODDS = (0.30, 0.35, 0.20, 0.15)

# A face is looked for at the places near its middle, by the anchors near it in size (in octaves).
_NEAR, _OCTAVES = 0.3, 0.6  # _NEAR in sides of the face, at least one stride
_SMALLEST = 11.0  # px; smaller faces count as neither face nor background
# Half hidden faces have to be found: that something is before them is for the parser to say. What is seen to a share
# between the two counts as neither, too.
_MOSTLY_SEEN, _HARDLY_SEEN = 0.35, 0.10
_SCORE_WEIGHT, _BOX_WEIGHT, _POINT_WEIGHT = 3.0, 1.5, 50.0
_POINT_BETA = 0.01  # sides of a face; below this error the loss of key points is quadratic


FIRST_LOOK = Path("first_look") / "detector.onnx"  # what `second_look` builds on and makes the pack's detector of


class DetectorTask(Task):
    name = "detector"
    # Kinds of photographs, how many of each are rendered at first use, and the share of the views that come from them.
    photos: ClassVar[dict[str, tuple[int, float]]] = {
        "any": (10_000, 0.45),
        "portrait": (6_000, 0.35),
        "still": (6_000, 0.20),
    }
    schedule = Schedule(steps=24_000, batch=16, lr=2e-3, weight_decay=0.01, ema=0.998, decay=0.7, clip=10.0)

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.device, self.data = device, data
        self.detector = Detector().to(device)
        self.modules = {"detector": self.detector}

    @cached_property
    def sets(self) -> list[Source]:
        return [(share, load_photos(self.data, kind, count)) for kind, (count, share) in self.photos.items()]

    def draw_side(self, rng: np.random.Generator) -> int:
        """Of the pictures of one step, px."""
        return int(rng.choice(_SIDES, p=_ODDS))

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        side = self.draw_side(rng)
        views = [view(self.sets, rng, side) for _ in range(batch)]
        images = to_tensor(np.stack([image for image, _ in views]), self.device)
        with autocast(self.device):
            # convolutions of few channels are faster with the channels last
            outputs = self.detector(images.contiguous(memory_format=torch.channels_last))
        scores, boxes, points = (concatenated(output) for output in outputs)
        where, stride, anchor = (t.to(self.device) for t in places(side, side))
        targets = [assign(torch.from_numpy(faces).to(self.device), where, stride, anchor) for _, faces in views]
        return detection_loss(scores[..., 0], boxes, points, targets, [f for _, f in views], where, stride)

    def evaluate(self) -> dict[str, float]:
        """See `measure.detection.measure`."""
        with tempfile.TemporaryDirectory() as folder:
            export_detector(self.detector, Path(folder) / "detector.onnx")
            return measure(open_detector(Path(folder) / "detector.onnx"), self.data)

    def load(self, folder: Path) -> None:
        file = folder / FIRST_LOOK
        if not file.exists():  # the pack's detector, which is what gets shipped, holds the first look, too
            file = folder / "pack" / "detector.onnx"
        self.detector.load_state_dict(load_detector(file).state_dict())

    def export(self, folder: Path) -> None:
        export_detector(self.detector, folder / FIRST_LOOK)


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3), blue first -> what the network takes, float32 (B, 3, H, W), red first."""
    rgb = torch.from_numpy(np.ascontiguousarray(images[..., ::-1])).to(device)
    return (rgb.permute(0, 3, 1, 2).float() - 127.5) / 128


def assign(faces: Tensor, where: Tensor, stride: Tensor, anchor: Tensor) -> Tensor:
    """Which face (F, 16) each place (N) answers for: its index, -1 none, -2 a face that nobody has to find."""
    owner = torch.full((len(where),), -1, dtype=torch.long, device=where.device)
    if not len(faces):
        return owner
    size = (faces[:, 2:4] - faces[:, :2]).clamp_min(1e-3)
    side = size.prod(1).sqrt()
    ignored = (side < _SMALLEST) | (faces[:, 15] < _MOSTLY_SEEN)
    off = where[:, None] - (faces[:, :2] + faces[:, 2:4])[None] / 2  # (N, F, 2)
    in_box = (off.abs() < size * 0.6).all(-1)
    owner[(in_box & (ignored & (faces[:, 15] > _HARDLY_SEEN))[None]).any(1)] = -2
    octaves = (side.clamp(anchor.min(), anchor.max()).log2()[None] - anchor.log2()[:, None]).abs()
    away = off.norm(dim=-1)
    reach = torch.maximum(side[None] * _NEAR, stride[:, None])
    candidates = (octaves < _OCTAVES) & (away < reach) & ~ignored[None]
    nearest = torch.where(candidates, away / side[None], torch.inf).min(1)
    return torch.where(nearest.values.isfinite(), nearest.indices, owner)


def detection_loss(
    scores: Tensor,
    boxes: Tensor,
    points: Tensor,
    owners: list[Tensor],
    faces: list[np.ndarray],
    where: Tensor,
    stride: Tensor,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of raw outputs (B, N), (B, N, 4), (B, N, 10) given who answers for what (`assign`) and the faces (F, 16)."""
    owner = torch.stack(owners)
    picture, place = (owner >= 0).nonzero(as_tuple=True)
    first = np.cumsum([0, *(len(f) for f in faces)])
    everyone = torch.from_numpy(np.concatenate(faces)).to(scores.device)
    face = everyone[torch.from_numpy(first).to(scores.device)[picture] + owner[picture, place]]
    here, step = where[place], stride[place]
    count = max(len(face), 1)

    overlap, giou = overlaps(decode_boxes(boxes[picture, place], here, step), face[:, :4])
    side = (face[:, 2:4] - face[:, :2]).prod(1, keepdim=True).sqrt()
    error = (
        (points[picture, place] - encode_points(face[:, 4:14].unflatten(1, (5, 2)), here, step)) * step[:, None] / side
    )
    edges = (boxes[picture, place] - encode_boxes(face[:, :4], here, step)) * step[:, None] / side
    box_loss = (1 - giou).sum() / count + F.smooth_l1_loss(
        edges, torch.zeros_like(edges), beta=0.05, reduction="sum"
    ) / count
    point_loss = F.smooth_l1_loss(error, torch.zeros_like(error), beta=_POINT_BETA, reduction="sum") / (10 * count)

    # after the varifocal loss (Zhang et al., arXiv 2008.13367): a score tells how well its box fits; background that is
    # seen as such counts little. The root keeps good boxes near 1, where users of detectors expect the scores of
    # faces. Background counts by its score, not by the square of it, which let a fifth of a doubt pass for a face.
    quality = torch.zeros_like(scores)
    quality[picture, place] = overlap.detach().clamp(0, 1).sqrt()
    weight = torch.where(owner >= 0, 1.0, scores.detach().sigmoid()) * (owner != -2)
    score_loss = (weight * F.binary_cross_entropy_with_logits(scores, quality, reduction="none")).sum() / count
    numbers = {"score": score_loss, "box": box_loss, "points": point_loss, "overlap": overlap.sum() / count}
    total = _SCORE_WEIGHT * score_loss + _BOX_WEIGHT * box_loss + _POINT_WEIGHT * point_loss
    return total, {name: float(value.detach()) for name, value in numbers.items()}


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al., arXiv 1902.09630) of boxes (N, 4) with boxes (N, 4): (N,) each."""
    size_a, size_b = (a[:, 2:] - a[:, :2]).clamp_min(0), b[:, 2:] - b[:, :2]
    both = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0).prod(1)
    either = size_a.prod(1) + size_b.prod(1) - both
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp_min(0).prod(1)
    iou = both / either.clamp_min(1e-6)
    return iou, iou - (hull - either) / hull.clamp_min(1e-6)
