"""What a build decided about a rendered album, against the truth. `python -m ray_jobs.miniature_proof ALBUM DATASET`.

The album is one of `adaface render-faces`, the dataset one that was built from its folders `people` and `flat`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adaface.miniature.album.write import read_truth
from data_pipeline.plan import feature_key
from data_pipeline.storage import Storage

GOOD = "good"
# What each fault must be rejected with.
RIGHT_REASONS: dict[str, frozenset[str]] = {
    "no_face": frozenset({"no_face"}),
    "several_people": frozenset({"multi_face"}),
    "profile": frozenset({"extreme_pose"}),
    "blurred": frozenset({"blurry"}),
    "tiny_face": frozenset({"small_face"}),
    "occluded": frozenset({"occluded"}),
    "over_exposed": frozenset({"bad_exposure"}),
    "wrong_person": frozenset({"identity_outlier"}),
    "exact_duplicate": frozenset({"duplicate_exact"}),
    "near_duplicate": frozenset({"duplicate_near"}),
    "broken": frozenset({"decode_error"}),
}
# Shares of the photos, and mean overlap of masks.
GOOD_ACCEPTED, FAULTS_REJECTED, MASK_IOU = 0.97, 0.95, 0.95
_DUPLICATES = {"duplicate_exact", "duplicate_near"}
_SHOWN = 12  # wrong decisions that are listed


@dataclass(frozen=True)
class Line:
    """The photos of one kind. `right` are those about which the dataset is right, with the right reason."""

    kind: str
    photos: int
    accepted: int
    right: int
    bar: float

    @property
    def share(self) -> float:
        return self.right / self.photos if self.photos else 1.0

    @property
    def passed(self) -> bool:
        return self.share >= self.bar


@dataclass(frozen=True)
class Proof:
    lines: list[Line]
    mask_iou: np.ndarray  # (M,) of every good photo that was accepted
    mistakes: list[str]  # a sentence for every photo about which the dataset is wrong

    @property
    def masks_passed(self) -> bool:
        return bool(len(self.mask_iou)) and float(self.mask_iou.mean()) >= MASK_IOU

    @property
    def passed(self) -> bool:
        return self.masks_passed and all(line.passed for line in self.lines)

    def __str__(self) -> str:
        text = [f"{'':<16} {'photos':>7} {'accepted':>9} {'rejected':>9} {'right':>7} {'share':>7} {'bar':>5}"]
        for line in self.lines:
            text.append(
                f"{line.kind:<16} {line.photos:>7,} {line.accepted:>9,} {line.photos - line.accepted:>9,} "
                f"{line.right:>7,} {line.share:>7.1%} {line.bar:>5.0%}  {_verdict(line.passed)}"
            )
        if len(self.mask_iou):
            low, mean = np.percentile(self.mask_iou, 5), self.mask_iou.mean()
            measured = f"mean IoU {mean:.3f}, 5% lie below {low:.3f}"
        else:
            measured = "none to compare"
        text.append(
            f"masks of {len(self.mask_iou):,} good photos: {measured}; bar {MASK_IOU}  {_verdict(self.masks_passed)}"
        )
        text += [f"  {mistake}" for mistake in self.mistakes[:_SHOWN]]
        if len(self.mistakes) > _SHOWN:
            text.append(f"  and {len(self.mistakes) - _SHOWN:,} more")
        return "\n".join(text)


def prove(album: str | os.PathLike[str], dataset: str) -> Proof:
    """Compare every decision and every mask with the truth.

    A copy counts as found when it or its original is left out as the duplicate of the other; which of the two is kept
    is the dataset's choice. A copy of a photo that is itself rejected for another reason is not counted.

    Raises:
        ValueError: no album, no finished dataset, or a dataset of other photos.
    """
    truth = read_truth(album)
    decisions, features = _read(dataset)
    root = Path(album).expanduser().resolve()
    decision_of = {row["path"]: decisions.get(str(root / row["path"])) for row in truth}
    missing = [path for path, decision in decision_of.items() if decision is None]
    if missing:
        raise ValueError(
            f"{dataset} has no decision about {len(missing):,} of the {len(truth):,} photos of {album}, such as "
            f"{missing[0]}; build it from both folders of this album, without data.limit"
        )
    copies: dict[str, list[str]] = {}
    for row in truth:
        copies.setdefault(row["copy_of"], []).append(row["path"])
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in (GOOD, *RIGHT_REASONS)}
    mistakes, overlaps = [], []
    for row in truth:
        decision, kind = decision_of[row["path"]], row["kind"]
        assert decision is not None
        reasons = set(decision["reasons"])
        if kind == GOOD:
            instead = [decision_of[path] for path in copies.get(row["path"], [])]
            stands_in = any(copy is not None and copy["accepted"] for copy in instead)
            right = decision["accepted"] or (stands_in and reasons <= _DUPLICATES)
            if decision["accepted"]:
                overlaps.append(_mask_iou(root / row["class_map"], features[_key(decision)]))
        elif row["copy_of"]:
            original = decision_of[row["copy_of"]]
            assert original is not None
            if set(original["reasons"]) - _DUPLICATES:
                continue
            left_out = original if decision["accepted"] else decision
            right = not left_out["accepted"] and bool(RIGHT_REASONS[kind] & set(left_out["reasons"]))
        else:
            right = bool(RIGHT_REASONS[kind] & reasons)
        counts[kind].update(photos=1, accepted=int(decision["accepted"]), right=int(right))
        if not right:
            mistakes.append(f"{row['path']} ({kind}): {', '.join(decision['reasons']) or 'accepted'}")
    lines = [
        Line(kind, n["photos"], n["accepted"], n["right"], GOOD_ACCEPTED if kind == GOOD else FAULTS_REJECTED)
        for kind, n in counts.items()
        if n["photos"]
    ]
    found = [iou for iou in overlaps if iou is not None]
    return Proof(lines, np.array(found, np.float64), mistakes)


def _read(dataset: str) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Rows of selection.parquet by path, and of the feature files by `feature_key`."""
    out = Storage(dataset)
    if not out.exists("dataset.json"):
        raise ValueError(f"{dataset} is not a finished dataset; build it first, see configs/miniature.yaml")
    decisions = {os.path.realpath(row["path"]): row for row in out.read_table("selection.parquet").to_pylist()}
    features = {}
    for name in out.list("features"):
        if name.rsplit("/", 1)[-1].startswith("part-"):
            for row in out.read_table(name, columns=["image_id", "mask_id", "crop", "mask"]).to_pylist():
                features[_key(row)] = row
    return decisions, features


def _key(row: dict[str, Any]) -> str:
    return feature_key(row["image_id"], row["mask_id"])


def _mask_iou(class_map: Path, feature: dict[str, Any]) -> float | None:
    """Overlap of the dataset's mask with the true foreground of what was cut out, at the size of the sample."""
    if feature["mask"] is None:
        return None
    mask = _plane(feature["mask"], "a mask") > 0
    classes = _plane(class_map.read_bytes(), str(class_map))
    x0, y0, x1, y1 = feature["crop"]
    # OpenCV's plain INTER_NEAREST is half a pixel off
    true = cv2.resize(classes[y0:y1, x0:x1], mask.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0
    either = int((mask | true).sum())
    return float((mask & true).sum() / either) if either else 1.0


def _plane(png: bytes, name: str) -> np.ndarray:
    plane = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    if plane is None:
        raise ValueError(f"{name} is damaged; make the album or the dataset anew")
    return plane


def _verdict(passed: bool) -> str:
    return "passed" if passed else "MISSED"


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 every bar is reached, 1 one is missed, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m ray_jobs.miniature_proof", description=__doc__.split("\n")[0])
    parser.add_argument("album", help="folder made by adaface render-faces")
    parser.add_argument("dataset", help="dataset that was built from it")
    options = parser.parse_args(arguments)
    try:
        proof = prove(options.album, options.dataset)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(proof)
    return 0 if proof.passed else 1


if __name__ == "__main__":
    sys.exit(main())
