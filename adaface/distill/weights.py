"""What every loss counts for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, ClassVar

import torch
from torch import Tensor

from adaface.distill.features import Place
from adaface.distill.problems import lists_to_tuples, raise_for, range_problems

# Losses that are left out together in an ablation.
FAMILIES: dict[str, tuple[str, ...]] = {
    "reconstruction": ("reconstruction",),
    "elastic_matching": (
        "map_alignment",
        "foreground_match",
        "background_match",
        "subject_suppression",
        "teacher_suppression",
    ),
    "deltas": ("feature_delta", "feature_delta_normalised", "attention_delta", "attention_norm"),
    "prompt_delta": ("prompt_delta",),
    "attention_regions": ("complementary", "subject_outside", "background_inside", "contrast"),
    "cross_layer": ("cross_layer_subject", "cross_layer_background"),
}
ACTIVATION_FAMILIES = ("elastic_matching", "deltas", "cross_layer")  # of compositions; they look into the UNet
_TERMS = tuple(name for names in FAMILIES.values() for name in names)
_USUAL_BACKGROUND_MATCH = 0.2


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of `adaface.distill.losses`; the defaults are what the original's settings amount to.

    Attributes:
        reconstruction: predicted against wanted noise, of a teacher or of the picture.
        map_alignment: elastic matching, 1e-3 * 0.5 of its whole in the original; so the next two.
        foreground_match: the person of the composition is that of the portrait.
        background_match: the rest is the teacher's; times `background_match_range`.
        subject_suppression: no attention to the subject in the background, 0.02 of elastic matching's weight.
        teacher_suppression: the same where the teacher attends to the subject's slots.
        feature_delta: features, 1e-4 * 0.5 of all deltas, times 0.5.
        feature_delta_normalised: features after a layer norm, times 2.5; the original tosses a coin between the two.
        attention_delta: direction of the attention to the subject, times 0.1.
        attention_norm: its size, times 1.
        prompt_delta: text states, 2e-4 * 0.5 * 0.2.
        complementary: attention to subject and background apart, 2e-4 * 0.2.
        subject_outside: attention to the subject off the person, 2e-4 * 0.05.
        background_inside: attention to the background on the person, 2e-4 * 0.1.
        contrast: of both, 2e-4 * 0.05.
        cross_layer_subject: the subject in the same place in all layers, 5e-5 * 0.2.
        cross_layer_background: the background in the same place, 5e-5 * 0.06.
        background_match_range: (least, largest) of the factor least * loss / 0.2, through which no gradient flows.
        pixels_of_teacher: weight of background pixels beside foreground pixels where a teacher's noise of a real face
            is wanted.
        pixels_of_noise: the same where the true noise is wanted in a distillation step.
        pixels_with_background: the same in plain reconstruction, where the prompt has a background token.
        pixels_without_background: the same without one.

    Raises:
        ValueError: naming everything that is wrong.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    reconstruction: float = 1.0
    map_alignment: float = 5e-4
    foreground_match: float = 5e-4
    background_match: float = 5e-4
    subject_suppression: float = 1e-5
    teacher_suppression: float = 1e-5
    feature_delta: float = 2.5e-5
    feature_delta_normalised: float = 1.25e-4
    attention_delta: float = 5e-6
    attention_norm: float = 5e-5
    prompt_delta: float = 2e-5
    complementary: float = 4e-5
    subject_outside: float = 1e-5
    background_inside: float = 2e-5
    contrast: float = 1e-5
    cross_layer_subject: float = 1e-5
    cross_layer_background: float = 3e-6
    background_match_range: tuple[float, float] = (2.0, 6.0)
    pixels_of_teacher: float = 0.0
    pixels_of_noise: float = 0.1
    pixels_with_background: float = 0.1
    pixels_without_background: float = 0.0

    def __post_init__(self) -> None:
        lists_to_tuples(self, "background_match_range")
        weights = [name for name in vars(self) if name != "background_match_range"]
        wrong = [
            f"{name} must be 0 or more, not {value!r}"
            for name in weights
            if not (isinstance(value := getattr(self, name), int | float) and isfinite(value) and value >= 0)
        ]
        raise_for("the loss weights", wrong, range_problems(self, "background_match_range"))

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """(B,): the weighted sum of terms (B,), which are named like the weights.

        Raises:
            ValueError: for no terms, or one without a weight.
        """
        unknown = sorted(set(terms) - set(_TERMS))
        if unknown or not terms:
            raise ValueError(f"no loss to weigh, or unknown ones ({unknown}); known are {', '.join(_TERMS)}")
        parts = []
        for name, value in terms.items():
            weight: float | Tensor = getattr(self, name)
            if name == "background_match":
                least, largest = self.background_match_range
                weight = weight * dynamic_scale(value, _USUAL_BACKGROUND_MATCH, least, largest)
            parts.append(weight * value)
        return torch.stack(parts).sum(0)

    def asks_for(self, family: str) -> bool:
        """Whether any term of a family counts; a step need not compute what does not."""
        return any(getattr(self, name) > 0 for name in FAMILIES[family])

    @property
    def looks_inside(self) -> tuple[str, ...]:
        """Those of ACTIVATION_FAMILIES that count: none, and a composition needs no start and no pass of the UNet."""
        return tuple(family for family in ACTIVATION_FAMILIES if self.asks_for(family))

    def without(self, *families: str) -> LossWeights:
        """The same weights, without those families. Raises ValueError for an unknown one."""
        if unknown := [family for family in families if family not in FAMILIES]:
            raise ValueError(f"no family of losses called {', '.join(unknown)}; known are {', '.join(FAMILIES)}")
        nothing: dict[str, Any] = {name: 0.0 for family in families for name in FAMILIES[family]}
        return replace(self, **nothing)


def dynamic_scale(loss: Tensor, usual: float, least: float, largest: float) -> Tensor:
    """least * loss / usual, within least..largest, without gradient. U: calc_dyn_loss_scale."""
    return (loss.detach() / usual * least).clamp(least, largest)


def layer_weights(places: Sequence[Place]) -> dict[str, float]:
    """Of elastic matching, deltas and attention regions: 0.5 on the way down, 1 elsewhere, normalised to sum 1."""
    return _normalised({place.name: 0.5 if place.part == "down" else 1.0 for place in places})


def cross_layer_weights(places: Sequence[Place]) -> dict[str, float]:
    """Of a layer with the one before it: 0.5 on the way down, 1 in the middle, halved from up block to up block.

    The first place has nothing before it. Normalised to sum 1.
    """
    relative = {"down": 0.5, "mid": 1.0}
    return _normalised({place.name: relative.get(place.part, 0.5**place.depth) for place in places[1:]})


def _normalised(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
