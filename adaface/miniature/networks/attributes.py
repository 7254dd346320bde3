"""Gender and age in insightface's layout: (B, 3, 96, 96) -> two logits, female and male, and the age in centuries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adaface.miniature.networks.conv_net import Residual, convolution
from adaface.miniature.world.identity import DISCRETE, Identity

# First and last year of the age groups of `identity.AGE_GROUPS`.
AGES = ((4, 12), (16, 30), (35, 65))
# An estimate below the first number of years is a child's, below the second a young person's.
_LIMITS = (14.0, 32.5)
_FIELDS = tuple(Identity.__dataclass_fields__)
_FEMALE, _AGE = _FIELDS.index("female"), _FIELDS.index("age")
_GROWING = [_FIELDS.index("ears"), _FIELDS.index("nose_length")]


class AttributeNet(nn.Sequential):
    """(B, 3, 96, 96), RGB, (0..255 - 127.5) / 128 -> (B, 3): logits of female and male, years / 100."""

    features: nn.Module
    answer: nn.Module
    LENGTH = 88 * 9

    def __init__(self) -> None:
        super().__init__()
        body = nn.Sequential(
            convolution(3, 24, 7, 4, nn.ReLU(inplace=True)),
            Residual(24, 48, 2),
            Residual(48, 72, 2),
            Residual(72, 88, 2),
            nn.Flatten(),
        )
        self.add_module("features", body)
        self.add_module("answer", nn.Linear(self.LENGTH, 3))


def attribute_file(weights: Path) -> Path:
    """Where the model is kept."""
    return weights / "pack" / "attributes.onnx"


def genders(factors: np.ndarray) -> np.ndarray:
    """`Identity.factors` (N, 20) -> int64 (N,): 0 female, 1 male, as insightface counts."""
    return 1 - factors[:, _FEMALE].astype(np.int64)


def age_groups(factors: np.ndarray) -> np.ndarray:
    """`Identity.factors` (N, 20) -> int64 (N,), indices into `identity.AGE_GROUPS`."""
    return factors[:, _AGE].astype(np.int64)


def years(factors: np.ndarray) -> np.ndarray:
    """`Identity.factors` (N, 20) -> float32 (N,), the age of these people.

    A rendered person has a group only. Within it ears and noses decide, which do grow through life: both smallest is
    the first year of the group, both largest the last.
    """
    first, last = np.array(AGES, np.float32)[age_groups(factors)].T
    share = 0.5 + factors[:, _GROWING].sum(1) / 4
    return first + (last - first) * share


def group_of(age: np.ndarray) -> np.ndarray:
    """Years (N,) -> int64 (N,), indices into `identity.AGE_GROUPS`."""
    return np.digitize(age, _LIMITS)


def to_attribute_input(crops: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """RGB uint8 (B, 96, 96, 3) -> float32 (B, 3, 96, 96), scaled as insightface's `Attribute` does."""
    return torch.from_numpy(np.asarray(crops)).permute(0, 3, 1, 2).float().sub_(127.5).div_(128.0)


class GroupHead(nn.Linear):
    """Training only: the age group, asked for by itself, since years alone blur the border between groups."""

    def __init__(self) -> None:
        super().__init__(AttributeNet.LENGTH, DISCRETE["age"])
