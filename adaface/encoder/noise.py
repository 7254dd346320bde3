"""Noise on ID embeddings, prompt vectors and fresh copies of weights, in units of how much their values vary."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-8  # keeps rows of zeros finite when their norm is restored; the original's value


def add_noise(
    x: Tensor,
    level: float,
    *,
    relative: bool = True,
    keep_norm: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Normal noise on every value (the original's `add_noise_to_tensor`, adaface/util.py).

    Args:
        x: (..., D), any floating dtype.
        level: standard deviation of the noise, 0 or more; 0 gives `x` itself and draws nothing.
        relative: the level counts in units of the mean over all rows of a row's standard deviation (unbiased): one
            number for the whole tensor, through which no gradient flows. A unit vector of 512 values has about 0.044.
        keep_norm: every row keeps its Euclidean length.
        generator: where the noise comes from; torch's global one by default. It may lie on another device than `x`.

    Returns:
        (..., D) of `x`'s dtype and device.

    Raises:
        ValueError: for a negative level.
    """
    if level < 0:
        raise ValueError(f"the noise level must be 0 or more, not {level}")
    if level == 0:
        return x
    device = generator.device if generator is not None else x.device
    draw = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
    return with_noise(x, draw, level, relative=relative, keep_norm=keep_norm)


def with_noise(x: Tensor, draw: Tensor, level: float, *, relative: bool = True, keep_norm: bool = False) -> Tensor:
    """`add_noise` with a standard normal draw (..., D) that is given."""
    scale: float | Tensor = level
    if relative:
        scale = level * x.detach().std(dim=-1).mean()
    noisy = x + scale * draw
    if keep_norm:
        # no gradient through the new norm, as in the original
        noisy = noisy * (x.norm(dim=-1, keepdim=True) / (noisy.detach().norm(dim=-1, keepdim=True) + _TINY))
    return noisy
