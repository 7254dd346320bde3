"""How good a face parser is: class maps against ground truth, on 512 x 512 samples as the data pipeline has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adaface.perception.classes import BACKGROUND, CLASS_NAMES

if TYPE_CHECKING:
    from adaface.perception.parsing import FaceParser

_CLASSES = len(CLASS_NAMES)


@dataclass(frozen=True)
class Agreement:
    """`confusion` int64 (19, 19): pixels by true class (row) and found class (column), over all pictures.

    Per picture, (N,): `foreground_iou`; `true_parts` and `found_parts`, the number of classes with at least one pixel,
    background included, as the rules of the data pipeline count them; `same_parts`, the share of the 19 classes about
    whose presence both agree.
    """

    confusion: np.ndarray
    foreground_iou: np.ndarray
    true_parts: np.ndarray
    found_parts: np.ndarray
    same_parts: np.ndarray

    def class_iou(self) -> dict[str, float]:
        """Intersection over union of all pixels of all pictures, for each class that occurs in the ground truth."""
        hits, true, found = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        return {name: float(hits[i] / (true[i] + found[i] - hits[i])) for i, name in enumerate(CLASS_NAMES) if true[i]}

    def mean_iou(self) -> float:
        """Mean of `class_iou`, every class alike, background among them."""
        return float(np.mean(list(self.class_iou().values())))

    def metrics(self) -> dict[str, float]:
        """Everything as numbers for a log."""
        true, found = self.true_parts, self.found_parts
        return {
            "mean_iou": self.mean_iou(),
            "foreground_iou": float(self.foreground_iou.mean()),
            "foreground_iou_5th_percentile": float(np.percentile(self.foreground_iou, 5)),
            "pixel_accuracy": float(np.trace(self.confusion) / self.confusion.sum()),
            "parts_agreement": float(self.same_parts.mean()),
            **{f"parts_true_{name}": value for name, value in _spread(true).items()},
            **{f"parts_found_{name}": value for name, value in _spread(found).items()},
            **{f"iou_{name}": value for name, value in self.class_iou().items()},
        }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {"least": float(values.min()), "mean": float(values.mean()), "most": float(values.max())}


def compare(parser: FaceParser, pictures: Iterable[tuple[np.ndarray, np.ndarray]]) -> Agreement:
    """A parser against pictures uint8 (H, W, 3) with their true class maps uint8 (H, W)."""
    return tally((classes, parser.parse(image[None])[0]) for image, classes in pictures)


def tally(maps: Iterable[tuple[np.ndarray, np.ndarray]]) -> Agreement:
    """Pairs of true and found class maps, uint8 (H, W) each. Raises ValueError when there are none."""
    confusion = np.zeros((_CLASSES, _CLASSES), np.int64)
    rows = []
    for true, found in maps:
        pairs = true.astype(np.int64).ravel() * _CLASSES + found.ravel()
        one = np.bincount(pairs, minlength=_CLASSES**2).reshape(_CLASSES, _CLASSES)
        confusion += one
        there, seen = one.sum(1) > 0, one.sum(0) > 0
        inside = one.sum() - one[BACKGROUND, BACKGROUND]  # of either foreground
        both = np.delete(np.delete(one, BACKGROUND, 0), BACKGROUND, 1).sum()
        rows.append((both / inside if inside else 1.0, there.sum(), seen.sum(), (there == seen).mean()))
    if not rows:
        raise ValueError("no class maps to compare")
    overlap, true_parts, found_parts, same = (np.array(column) for column in zip(*rows, strict=True))
    return Agreement(confusion, overlap, true_parts, found_parts, same)
