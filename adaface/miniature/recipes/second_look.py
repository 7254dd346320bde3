"""The detector's second look, trained on the candidates of a detector that stays as it is."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaface.miniature.measure.detection import measure, open_detector
from adaface.miniature.networks.detector import (
    concatenated,
    decode_boxes,
    decode_points,
    export_detector,
    load_detector,
    load_second_look,
    places,
)
from adaface.miniature.networks.second_look import SecondLook
from adaface.miniature.pictures.detector_views import view, with_something_held
from adaface.miniature.recipes.detector import FIRST_LOOK, DetectorTask, overlaps, to_tensor
from adaface.miniature.training import Schedule
from adaface.models.precision import autocast

_CANDIDATES = 40  # of a picture, by score
_FACE, _BACKGROUND = 0.5, 0.3  # IoU of a candidate's box with a face; in between counts for nothing
# What shows less of a face is neither right nor wrong. The first look asks for more; here a face behind
# a book is to be found, so that it can be said to be hidden.
_HARDLY_SEEN = 0.15
_SOMETHING_HELD = 0.25  # share of the views in which something is before a face
# Faces and what is none weigh so much, however many candidates there are of each. Users of detectors cut at 0.5: there
# most pictures without a face must be without one, while good photographs score far above it.
_BACKGROUND_WEIGHT = 12.0
# Taken off the finished logits for the same reason: 99 of 100 good faces score over 0.99, so nothing is lost by it.
_CAUTION = 2.0
_SCORE_WEIGHT, _BOX_WEIGHT, _POINT_WEIGHT = 1.0, 1.0, 20.0
_BETA = 0.01  # sides of a face, as in the first look


class SecondLookTask(DetectorTask):
    """Takes the first look from `weights` and writes both as the pack's detector."""

    name = "second_look"
    schedule = Schedule(steps=14_000, batch=16, lr=2e-3, warmup=200, weight_decay=0.01, ema=0.998, decay=0.7, clip=5.0)

    def __init__(self, data: Path, weights: Path, device: torch.device):
        super().__init__(data, weights, device)
        self.weights = weights
        self.second = SecondLook().to(device)
        self.modules = {"second": self.second}
        self._first_is_loaded = False

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        self._load_first()
        side = self.draw_side(rng)
        views = [self._view(rng, side) for _ in range(batch)]
        images = to_tensor(np.stack([image for image, _ in views]), self.device)
        with torch.no_grad(), autocast(self.device):
            detail, levels = self.detector.features(images.contiguous(memory_format=torch.channels_last))
            scores, boxes, points = (concatenated(output) for output in self.detector.look(levels))
        where, stride, _ = (t.to(self.device) for t in places(side, side))
        logits, best = scores[..., 0].topk(_CANDIDATES, dim=1)
        rows = torch.arange(batch, device=self.device)[:, None]
        once = decode_boxes(boxes[rows, best], where[best], stride[best])
        marks = decode_points(points[rows, best], where[best], stride[best])
        more, edges, moves = self.second(detail.float(), levels[0].float(), once, marks)
        faces = [torch.from_numpy(found).to(self.device) for _, found in views]
        return second_loss(logits + more[..., 0], once, edges, moves, faces)

    def _view(self, rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
        seen = view(self.sets, rng, side)
        return with_something_held(*seen, rng) if rng.random() < _SOMETHING_HELD else seen

    def load(self, folder: Path) -> None:
        self.detector.load_state_dict(load_detector(folder / "pack" / "detector.onnx").state_dict())
        self.second.load_state_dict(load_second_look(folder / "pack" / "detector.onnx").state_dict())
        with torch.no_grad():
            self.second.out.bias[0] += _CAUTION
        self._first_is_loaded = True

    def evaluate(self) -> dict[str, float]:
        """See `measure.detection.measure`."""
        with tempfile.TemporaryDirectory() as folder:
            self.export(Path(folder))
            return measure(open_detector(Path(folder) / "pack" / "detector.onnx"), self.data)

    def export(self, folder: Path) -> None:
        self._load_first()
        cautious = copy.deepcopy(self.second)
        with torch.no_grad():
            cautious.out.bias[0] -= _CAUTION
        export_detector(self.detector, folder / "pack" / "detector.onnx", cautious)

    def _load_first(self) -> None:
        if not self._first_is_loaded:
            self.detector.load_state_dict(load_detector(self.weights / FIRST_LOOK).state_dict())
            self.detector.to(self.device).eval().requires_grad_(False)
            self._first_is_loaded = True


def second_loss(
    scores: Tensor, once: Tensor, boxes: Tensor, points: Tensor, faces: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """Loss of the candidates' score logits (B, K), boxes (B, K, 4) and points (B, K, 5, 2), px, given the boxes of the
    first look (B, K, 4), which decide whose candidates they are, and the faces (F, 16) of every picture.
    """
    target = torch.zeros_like(scores)
    counts = torch.ones_like(scores)
    pictures, places_, truths = [], [], []
    for number, there in enumerate(faces):
        there = there[there[:, 15] > 0]
        if not len(there):
            continue
        iou = _overlap_table(once[number], there[:, :4])  # (K, F)
        closest, whose = iou.max(1)
        seen = there[whose, 15] >= _HARDLY_SEEN
        counts[number, (closest > 0.1) & ~seen] = 0
        counts[number, (closest > _BACKGROUND) & (closest < _FACE)] = 0
        own = ((closest >= _FACE) & seen).nonzero()[:, 0]
        pictures.append(torch.full_like(own, number))
        places_.append(own)
        truths.append(there[whose[own]])
    if not pictures:
        loss = F.binary_cross_entropy_with_logits(scores, target)
        return loss * _SCORE_WEIGHT, {"score": float(loss.detach())}
    picture, place, truth = torch.cat(pictures), torch.cat(places_), torch.cat(truths)
    side = (truth[:, 2:4] - truth[:, :2]).prod(1).sqrt()[:, None]
    overlap, giou = overlaps(boxes[picture, place], truth[:, :4])
    target[picture, place] = overlap.detach().clamp(0, 1).sqrt()
    error = (points[picture, place] - truth[:, 4:14].unflatten(1, (5, 2))).flatten(1) / side
    count = max(len(truth), 1)
    point_loss = F.smooth_l1_loss(error, torch.zeros_like(error), beta=_BETA, reduction="sum") / (10 * count)
    box_loss = (1 - giou).sum() / count
    cross = F.binary_cross_entropy_with_logits(scores, target, reduction="none") * counts
    own_share = torch.zeros_like(counts)
    own_share[picture, place] = 1
    background = (cross * (1 - own_share)).sum() / (counts * (1 - own_share)).sum().clamp_min(1)
    score_loss = (cross * own_share).sum() / count + _BACKGROUND_WEIGHT * background
    numbers = {"score": score_loss, "box": box_loss, "points": point_loss, "overlap": overlap.sum() / count}
    total = _SCORE_WEIGHT * score_loss + _BOX_WEIGHT * box_loss + _POINT_WEIGHT * point_loss
    return total, {name: float(value.detach()) for name, value in numbers.items()}


def _overlap_table(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each of the boxes (K, 4) with each of the boxes (F, 4): (K, F)."""
    rows, columns = len(a), len(b)
    iou, _ = overlaps(a[:, None].expand(-1, columns, -1).reshape(-1, 4), b[None].expand(rows, -1, -1).reshape(-1, 4))
    return iou.reshape(rows, columns)
