"""What the losses are made of: parts of a vector along and across another, and the cosine to a reference.

Every loss of this room gives one value per image, (B,): the step weights them and takes their mean, so that two workers
with half a batch each have the gradient of one worker with all of it. `gs_a(x)` in formulas is x, whose gradient is
multiplied by a on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from adaface.encoder.gradient_scale import scale_gradient

_TINY_SQUARE = 1e-6  # keeps the part along a vector of zeros finite; the original's value
_TINY_COSINE = 1e-12  # torch.nn.functional.cosine_embedding_loss, which the original calls
_TINY_WEIGHT = 1e-8

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Tensors of half precision among the arguments, also inside mappings, come in as float32; autocast is off."""

    def widened(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
        if isinstance(value, Mapping):
            return {name: widened(part) for name, part in value.items()}
        return value

    def device_type(value: Any) -> str | None:
        if isinstance(value, Tensor):
            return value.device.type
        if isinstance(value, Mapping):
            return next((found for part in value.values() if (found := device_type(part))), None)
        return None

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        given: list[object] = [*args, *kwargs.values()]
        device = next((found for value in given if (found := device_type(value))), "cpu")
        with torch.autocast(device, enabled=False):
            return function(*map(widened, args), **{name: widened(value) for name, value in kwargs.items()})

    return run


def alignment(a: Tensor, b: Tensor, *, dims: int = 1) -> Tensor:
    """How many times b lies in a: <a, b> / (<b, b> + 1e-6) over the last `dims` dimensions, which stay, of size 1.

    The inputs broadcast. U: ortho_subtract, calc_align_coeffs.
    """
    last = tuple(range(-dims, 0))
    a, b = torch.broadcast_tensors(a, b)
    return (a * b).sum(last, keepdim=True) / ((b * b).sum(last, keepdim=True) + _TINY_SQUARE)


def orthogonal(a: Tensor, b: Tensor, *, dims: int = 1) -> Tensor:
    """The part of a across b: orth(a, b) = a - b * alignment(a, b). Shapes as in `alignment`. U: ortho_subtract."""
    return a - alignment(a, b, dims=dims) * b


def orthogonal_l2(a: Tensor, b: Tensor) -> Tensor:
    """(B,): mean of orth(a, b)^2 over all but the first dimension. U: ortho_l2loss."""
    return orthogonal(a, b).square().flatten(1).mean(1)


def sharpened(x: Tensor, exponent: float) -> Tensor:
    """sign(x) |x|^exponent, value by value: large values of a reference count for more."""
    return x if exponent == 1 else x * x.abs().pow(exponent - 1)


def cosine_loss(
    x: Tensor,
    reference: Tensor,
    *,
    exponent: float = 2,
    reference_gradient: float = 0,
    demean: bool = False,
    repel: bool = False,
    margin: float = 0,
    weights: Tensor | None = None,
) -> Tensor:
    """(B,): cosL(x, r) = mean over rows of 1 - cos(x, sign(r') |r'|^exponent), r' = gs(r). U: calc_ref_cosine_loss.

    Args:
        x, reference: (B, ..., D); every vector along the last dimension is a row.
        reference_gradient: share of the gradient that reaches the reference.
        demean: rows of both lose their mean first.
        repel: max(0, cos) instead of 1 - cos.
        margin: a loss below it counts as 0; above, only what exceeds it.
        weights: broadcasts to (B, ...): weights of the rows, 0 or more.
    """
    if demean:
        x, reference = (value - value.mean(-1, keepdim=True) for value in (x, reference))
    target = sharpened(scale_gradient(reference, reference_gradient), exponent)
    lengths = (x.square().sum(-1) + _TINY_COSINE) * (target.square().sum(-1) + _TINY_COSINE)
    cosine = (x * target).sum(-1) / lengths.sqrt()
    rows = (cosine.clamp(min=0) if repel else 1 - cosine).unsqueeze(1).flatten(1)
    if weights is None:
        loss = rows.mean(1)
    else:
        weights = weights.expand(cosine.shape).unsqueeze(1).flatten(1)
        loss = (rows * weights).sum(1) / (weights.sum(1) + _TINY_WEIGHT)
    return (loss - margin).clamp(min=0) if margin > 0 else loss


def delta_alignment(
    base: Tensor,
    changed: Tensor,
    reference_base: Tensor,
    reference_changed: Tensor,
    *,
    exponent: float = 2,
    reference_gradient: float = 0.1,
    base_gradient: float = 0.05,
) -> Tensor:
    """(B,): what the subject adds with the composition should point where it points without.

    cosL(orth(changed, gs(reference_changed)), orth(gs(base), gs(reference_base))), both with their gradients.
    U: calc_delta_alignment_loss, 'feat_to_ref'.

    Args:
        base, changed, reference_base, reference_changed: (B, ..., D); subject alone and in a composition, class
            alone and in a composition.
    """
    reference_base = scale_gradient(reference_base, reference_gradient)
    reference_changed = scale_gradient(reference_changed, reference_gradient)
    source = orthogonal(scale_gradient(base, base_gradient), reference_base)
    target = orthogonal(changed, reference_changed)
    return cosine_loss(target, source, exponent=exponent, reference_gradient=1)
