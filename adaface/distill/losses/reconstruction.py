"""Predicted against wanted noise, weighted by where the person is."""

from __future__ import annotations

import torch
from torch import Tensor

from adaface.distill.losses.operators import in_float32

_TINY = 1e-6


@in_float32
def reconstruction(
    predicted: Tensor,
    target: Tensor,
    *,
    foreground: Tensor | None = None,
    valid: Tensor | None = None,
    background_weight: float | Tensor = 0.0,
    together: bool = False,
) -> Tensor:
    """(B,): sum(w * (m * predicted - m * target)^2) / (sum(w) + 1e-6), w = m * (fg + background_weight * (1 - fg)).

    D: calc_recon_loss.

    Args:
        predicted, target: (B, C, h, w) noise.
        foreground: fg, (B, 1, h, w) in 0..1; None: everything is foreground.
        valid: m, (B, 1, h, w): 0 in the border that augmentation leaves around a picture; None: all ones.
        background_weight: one number, or one per image (B,).
        together: one quotient of sums over the whole batch, in every place of the result, as in the original. Then
            an image counts by the area of its face, and the loss of a batch is not the mean over its halves.
    """
    ones = torch.ones_like(predicted[:, :1])
    foreground = ones if foreground is None else foreground
    valid = ones if valid is None else valid
    if isinstance(background_weight, Tensor):
        background_weight = background_weight.view(-1, 1, 1, 1)
    weight = (valid * (foreground + background_weight * (1 - foreground))).expand(predicted.shape)
    error = (weight * (predicted * valid - target * valid).square()).flatten(1).sum(1)
    total = weight.flatten(1).sum(1)
    if together:
        return (error.sum() / (total.sum() + _TINY)).expand(len(error))
    return error / (total + _TINY)


def over_rollout(steps: list[Tensor]) -> Tensor:
    """(B,): sum of the losses (B,) of a rollout's N steps / sqrt(N). D: shared_step, Arc2Face distillation."""
    return torch.stack(steps).sum(0) / len(steps) ** 0.5
