"""What each model has to reach, and the table that says whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# model -> its measures by name
Measures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Bar:
    """`least` or `most` is what `measure` of `model` has to keep to; `says` is the reader's word for it."""

    model: str
    measure: str
    says: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def text(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


BARS = (
    Bar("second_look", "recall", "faces of at least 24 px found at IoU 0.5", least=0.99),
    Bar("second_look", "precision", "finds that are faces", least=0.99),
    Bar("second_look", "point_error", "key-point error, in distances between the eyes", most=0.05),
    Bar("second_look", "empty", "landscapes and things in which no face is found", least=0.98),
    Bar("recogniser", "photo_auc", "verification AUC, photographs", least=0.995),
    Bar("recogniser", "any_auc", "verification AUC, any scene, hat, glasses and style", least=0.97),
    Bar("judge", "photo_auc", "verification AUC, photographs", least=0.995),
    Bar("judge", "any_auc", "verification AUC, any scene, hat, glasses and style", least=0.97),
    Bar("parser", "mean_iou", "mean IoU over the classes present", least=0.80),
    Bar("parser", "foreground_iou", "foreground IoU", least=0.97),
    Bar("clip", "retrieval_top1_of_64", "the right caption of 64 comes first", least=0.95),
    Bar("clip", "zero_shot_place", "zero-shot accuracy, place", least=0.90),
    Bar("clip", "zero_shot_clothing", "zero-shot accuracy, clothing", least=0.90),
    Bar("clip", "zero_shot_headwear", "zero-shot accuracy, head-wear", least=0.90),
    Bar("clip", "zero_shot_style", "zero-shot accuracy, style", least=0.90),
    Bar("vae", "psnr", "PSNR, dB", least=28),
    Bar("vae", "kept_share_pack", "ID cosine kept, of real to real", least=0.95),
    Bar("vae", "kept_share_judge", "the same, by the judge", least=0.95),
    Bar("names", "traits_pack_gap", "identity gap with the traits spelled out", least=0.5),
    Bar("names", "traits_judge_gap", "the same, by the judge", least=0.5),
    Bar("names", "portrait_faces_found", "portrait prompts with a face found", least=0.95),
    Bar("names", "prompted_place_seen", "the prompted place is seen", least=0.85),
    Bar("names", "prompted_clothing_seen", "the prompted clothing is seen", least=0.85),
    Bar("names", "prompted_headwear_seen", "the prompted head-wear is seen", least=0.85),
    Bar("names", "prompted_eyewear_seen", "the prompted glasses are seen", least=0.85),
    Bar("names", "prompted_style_seen", "the prompted style is seen", least=0.85),
    Bar("names", "prompted_light_seen", "the prompted light is seen", least=0.85),
    Bar("teacher", "share_of_real_pack", "own cosine, of real to real", least=0.88),
    Bar("teacher", "share_of_real_judge", "the same, by the judge", least=0.88),
    Bar("teacher", "teacher_pack_others", "cosine to other people", most=0.1),
    Bar("teacher", "teacher_pack_top1", "own person comes first of 48", least=0.9),
    Bar("teacher", "teacher_judge_top1", "the same, by the judge", least=0.9),
)


@dataclass(frozen=True)
class Result:
    bar: Bar
    value: float | None  # None: not measured

    @property
    def met(self) -> bool:
        return self.value is not None and self.bar.met(self.value)


def judge(measures: Measures) -> list[Result]:
    """Every bar with what was measured; a measure that is missing counts as not met."""
    return [Result(bar, measures.get(bar.model, {}).get(bar.measure)) for bar in BARS]


def table(results: list[Result]) -> str:
    """Markdown."""
    lines = ["| model | measure | bar | measured | |", "|---|---|---|---|---|"]
    for result in results:
        value = "not measured" if result.value is None else f"{result.value:.4g}"
        mark = "met" if result.met else "**not met**"
        lines.append(f"| {result.bar.model} | {result.bar.says} | {result.bar.text} | {value} | {mark} |")
    return "\n".join(lines)
