"""Values pass unchanged, gradients pass scaled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x`, whose gradient is multiplied by `factor` on the way back; 0 cuts it off (the original's GradientScaler).

    Raises ValueError for a negative factor.
    """
    if factor < 0:
        raise ValueError(f"a gradient is scaled by 0 or more, not by {factor}")
    if factor == 0:
        return x.detach()
    return x if factor == 1 else _Scale.apply(x, factor)
