"""What is measured on an image, in which unit, and which rule of the configuration looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Scale = Literal["linear", "log", "whole"]
Side = Literal["below", "above", "beyond"]


@dataclass(frozen=True)
class Rule:
    """A number of the `data:` section. It rejects values below it, above it, or beyond it in either direction."""

    key: str
    side: Side
    reason: str


@dataclass(frozen=True)
class Quantity:
    column: str
    title: str
    unit: str = ""
    scale: Scale = "linear"
    decimals: int = 2
    rules: tuple[Rule, ...] = ()
    note: str = ""
    word: str = ""  # stands before the value in a caption, instead of the unit

    def write(self, value: float) -> str:
        """A value with its unit, for people."""
        if not np.isfinite(value):
            return "not measured"
        return _number(value, self.decimals) + (
            self.unit if self.unit == DEGREE else f" {self.unit}" if self.unit else ""
        )

    def caption(self, value: float, threshold: float) -> str:
        """A value in few characters, under a picture, never rounded onto the threshold that it missed."""
        if not np.isfinite(value):
            return "not measured"
        decimals = self.decimals
        while (
            decimals < self.decimals + 3
            and round(abs(value), decimals) == round(threshold, decimals)
            and abs(value) != threshold
        ):
            decimals += 1
        if not self.word:
            return _number(value, decimals) + (f" {self.unit}" if self.unit else "")
        return f"{self.word} {_number(value, decimals)}{DEGREE if self.unit == DEGREE else ''}"


def _number(value: float, decimals: int) -> str:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


DEGREE = "\N{DEGREE SIGN}"

QUANTITIES: tuple[Quantity, ...] = (
    Quantity("det_score", "Detector score", rules=(Rule("min_det_score", "below", "low_det_score"),), word="score"),
    Quantity(
        "embedding_norm",
        "Embedding norm",
        decimals=1,
        rules=(Rule("min_embedding_norm", "below", "low_embedding_norm"),),
        note="length of the ID embedding before normalisation",
        word="norm",
    ),
    Quantity(
        "face_pixels",
        "Face size",
        "px",
        decimals=0,
        rules=(Rule("min_face", "below", "small_face"),),
        note="shorter side of the face box, in the sample or the source, the less",
    ),
    Quantity("face_share", "Face share", note="face box area as a share of the sample"),
    Quantity(
        "second_face",
        "Second face",
        rules=(Rule("max_second_face", "above", "multi_face"),),
        note="area of the second face as a share of the first; 0: only one",
        word="second face",
    ),
    Quantity(
        "short_side",
        "Image size",
        "px",
        "log",
        0,
        (Rule("min_side", "below", "too_small"),),
        "shorter side of the file",
    ),
    Quantity("yaw", "Yaw", DEGREE, "linear", 0, (Rule("max_yaw", "beyond", "extreme_pose"),), "left or right", "yaw"),
    Quantity(
        "pitch", "Pitch", DEGREE, "linear", 0, (Rule("max_pitch", "beyond", "extreme_pose"),), "up or down", "pitch"
    ),
    Quantity(
        "roll", "Roll", DEGREE, "linear", 0, (Rule("max_roll", "beyond", "extreme_pose"),), "tilt in the image", "roll"
    ),
    Quantity(
        "sharpness",
        "Sharpness",
        "grey levels\N{SUPERSCRIPT TWO}",
        "log",
        0,
        (Rule("min_sharpness", "below", "blurry"),),
        "variance of the Laplacian of the aligned face",
        "sharpness",
    ),
    Quantity("exposure", "Exposure", note="mean brightness of the face; 0 black, 1 white"),
    Quantity(
        "clipped",
        "Clipped pixels",
        rules=(Rule("max_clipped", "above", "bad_exposure"),),
        note="share of the face that is plain white or plain black",
        word="clipped",
    ),
    Quantity(
        "face_seen",
        "Face seen",
        rules=(Rule("min_face_seen", "below", "occluded"),),
        note="share of the face box where the parser sees a face",
        word="seen",
    ),
    Quantity(
        "n_parts",
        "Classes seen by the parser",
        "classes",
        "whole",
        0,
        (Rule("min_parts", "below", "too_few_parts"), Rule("max_parts", "above", "too_many_parts")),
        "background included",
    ),
    Quantity("foreground", "Foreground share", note="share of the mask that is not background"),
    Quantity("mask_iou", "Mask agreement", note="IoU of the parser's foreground and the mask beside the image"),
    Quantity(
        "identity_similarity",
        "Own identity",
        "cosine",
        rules=(Rule("min_identity_similarity", "below", "identity_outlier"),),
        note="similarity to the mean embedding of the own folder",
        word="cosine",
    ),
    Quantity("nearest_similarity", "Nearest other identity", "cosine", note="similarity to its mean embedding"),
)
# Columns of identities.parquet.
IDENTITY_QUANTITIES: tuple[Quantity, ...] = (
    Quantity(
        "nearest_similarity",
        "Nearest pair of identities",
        "cosine",
        rules=(Rule("merged_identity_similarity", "above", "identity_merged"),),
        note="each identity's mean against the nearest other mean",
        word="cosine of means",
    ),
    Quantity(
        "det_score",
        "Detector score of identities",
        rules=(Rule("min_identity_det_score", "below", "identity_not_a_face"),),
        note="median over the identity's faces",
        word="median score",
    ),
)

# Numbers behind each reason: configuration keys and their units.
REASON_KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "decode_error": (("max_pixels", "px"), ("max_bytes", "bytes")),
    "too_small": (("min_side", "px"),),
    "multi_face": (("max_second_face", ""),),
    "low_det_score": (("min_det_score", ""),),
    "low_embedding_norm": (("min_embedding_norm", ""),),
    "small_face": (("min_face", "px"),),
    "extreme_pose": (("max_yaw", DEGREE), ("max_pitch", DEGREE), ("max_roll", DEGREE)),
    "blurry": (("min_sharpness", ""),),
    "bad_exposure": (("max_clipped", ""),),
    "occluded": (("min_face_seen", ""),),
    "too_few_parts": (("min_parts", "classes"),),
    "too_many_parts": (("max_parts", "classes"),),
    "identity_outlier": (("min_identity_similarity", ""),),
    "duplicate_exact": (("drop_exact_duplicates", ""),),
    "duplicate_near": (("near_duplicate_bits", "bits"), ("near_duplicate_similarity", "")),
    "identity_not_a_face": (("min_identity_det_score", ""),),
    "identity_too_small": (("min_identity_images", "images"),),
    "identity_merged": (("merged_identity_similarity", ""),),
    "eval_identity_leak": (("eval_leak_similarity", ""),),
}


def rules_of(
    reason: str, settings: Mapping[str, Any], quantities: tuple[Quantity, ...] = QUANTITIES
) -> list[tuple[Quantity, Rule, float]]:
    """Quantities, rules and thresholds behind a reason that are switched on in the `data:` section."""
    return [
        (quantity, rule, float(settings[rule.key]))
        for quantity in quantities
        for rule in quantity.rules
        if rule.reason == reason and settings.get(rule.key) is not None
    ]


def excess(values: np.ndarray, rule: Rule, threshold: float) -> np.ndarray:
    """How far values lie on the rejected side of a threshold, as a share of it; negative: on the accepted side."""
    signed = {"below": threshold - values, "above": values - threshold, "beyond": np.abs(values) - threshold}[
        rule.side
    ]
    return signed / max(abs(threshold), 1e-6)


def write_rule(reason: str, settings: Mapping[str, Any]) -> list[str]:
    """The numbers of a reason as they stand in the configuration, such as `min_face = 64 px`; switched-off ones say so."""
    lines = []
    for key, unit in REASON_KEYS.get(reason, ()):
        value = settings.get(key)
        if value is None or value is False:
            lines.append(f"{key} = off")
            continue
        number = "on" if value is True else f"{value:,}" if isinstance(value, int) else f"{value:g}"
        lines.append(f"{key} = {number}{unit if unit == DEGREE else ' ' + unit if unit else ''}")
    return lines


def is_off(reason: str, settings: Mapping[str, Any]) -> bool:
    """Whether every number behind a reason is switched off."""
    keys = [key for key, _ in REASON_KEYS.get(reason, ())]
    return bool(keys) and all(settings.get(key) in (None, False) for key in keys)
