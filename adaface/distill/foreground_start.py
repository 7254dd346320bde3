"""A composition's first picture: the person, smaller, in the middle of noise. U: init_x_with_fg_from_training_image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adaface.distill.draws import Generators, normal, uniform
from adaface.distill.problems import lists_to_tuples, raise_for, range_problems, share_problems

_LARGE = 0.1  # share of the picture from which a person is made smaller than `scale` says
_SHRINK = 0.35
_LEAST_UPPER = 0.5


@dataclass(frozen=True)
class StartSettings:
    """How a start is drawn.

    Attributes:
        scale: (least, largest) side of the person's picture as a share of the whole.
        noise: mean share of noise at the beginning and at the end of a run.
        noise_spread: the share is uniform within this part of its mean, above and below.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    scale: tuple[float, float] = (0.7, 1.0)
    noise: tuple[float, float] = (0.1, 0.4)
    noise_spread: float = 0.2

    def __post_init__(self) -> None:
        lists_to_tuples(self, "scale", "noise")
        ranges = range_problems(self, "scale")
        if not ranges and not 0 < self.scale[0] <= self.scale[1] <= 1:
            ranges = [f"scale must be two numbers, 0 < least <= largest <= 1, not {self.scale}"]
        means = [] if _two_shares(self.noise) else [f"noise must be two shares in 0..1, not {self.noise!r}"]
        raise_for("a composition's start", ranges, means, share_problems(self, "noise_spread"))


def _two_shares(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(0 <= share <= 1 for share in value)


class StartDraw(NamedTuple):
    """Of B pictures: `scale` and `noise`, float64 (B,) on the CPU."""

    scale: Tensor
    noise: Tensor


def draw_start(
    foreground: Tensor, generators: Generators, *, progress: float, settings: StartSettings | None = None
) -> StartDraw:
    """How large the person becomes and how much noise covers everything.

    scale ~ U[least, largest]; where the person has a share f > 0.1 of the picture, U[e least, max(0.5, e largest)] with
    e = (0.1 / f)^0.35. noise ~ U[0.8 mu, 1.2 mu], mu on the line between the settings' two means. Candidates of one
    composition share a draw: `draw.scale.repeat_interleave(n)`.

    Args:
        foreground: (B, 1, h, w) mask of the person in 0..1.
        generators: one per picture.
        progress: of the run, in 0..1.
    """
    settings = settings or StartSettings()
    share = foreground.detach().flatten(1).double().mean(1).cpu()
    smaller = torch.where(share > _LARGE, (_LARGE / share.clamp(min=_LARGE)) ** _SHRINK, 1.0)
    least, largest = (bound * smaller for bound in settings.scale)
    largest = torch.where(share > _LARGE, largest.clamp(min=_LEAST_UPPER), largest)
    mean = settings.noise[0] + (settings.noise[1] - settings.noise[0]) * progress
    scale = least + (largest - least) * uniform(generators)
    around = 1 + settings.noise_spread * (2 * uniform(generators) - 1)
    return StartDraw(scale, (mean * around).clamp(0, 1))


def start_from_person(
    latents: Tensor, foreground: Tensor, draw: StartDraw, generators: Generators
) -> tuple[Tensor, Tensor]:
    """The start (B, 4, h, w) and the person's mask in it (B, 1, h, w); without a mask it is noise alone.

    Args:
        latents: (B, 4, h, w) of the person's picture.
        foreground: (B, 1, h, w) mask of the person in 0..1; all zeros: none.
        draw: of `draw_start`.
        generators: one per start.
    """
    noise = normal(generators, (3, *latents.shape[1:]), device=latents.device).to(latents.dtype)
    return compose_start(latents, foreground, draw, noise.unbind(1))


def compose_start(
    latents: Tensor, foreground: Tensor, draw: StartDraw, noise: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """`start_from_person` with its noise given: three times (B, 4, h, w).

    The first surrounds the person before the picture shrinks (bilinear, zeros around), the second fills what is
    outside of the shrunk mask, and of the third there is `draw.noise` everywhere: x = noise * z + (1 - noise) * x.
    """
    around, outside, over = noise
    whole = torch.cat([torch.where(foreground.bool(), latents, around), foreground.to(latents.dtype)], dim=1)
    small = torch.cat([shrunk(row, scale) for row, scale in zip(whole.split(1), draw.scale.tolist(), strict=True)])
    x, mask = small[:, :-1], small[:, -1:]
    x = torch.where(mask.bool(), x, outside)
    share = draw.noise.to(latents)[:, None, None, None]
    return share * over + (1 - share) * x, mask


def shrunk(x: Tensor, scale: float) -> Tensor:
    """(1, C, h, w) smaller by `scale`, in the middle of zeros."""
    small = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    height, width = (whole - part for whole, part in zip(x.shape[2:], small.shape[2:], strict=True))
    return F.pad(small, (width // 2, width - width // 2, height // 2, height - height // 2))
