"""Maps over the latent's positions: sizes, means under a mask, and where a subject is not looked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-6


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear without antialiasing, as the original does it."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def resized_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, H, W) in 0..1 -> (B, 1, *size): the larger of nearest and bilinear, so that thin parts stay.

    U: resize_mask_for_feat_or_attn.
    """
    return torch.maximum(F.interpolate(mask, size=size, mode="nearest"), resized(mask, size))


def masked_mean(
    x: Tensor,
    mask: Tensor | None,
    *,
    dims: tuple[int, ...] | None = None,
    instances: Tensor | None = None,
) -> Tensor:
    """sum(x * mask) / max(sum(mask), 1e-6) over `dims`, which stay with size 1, or over everything. U: masked_mean.

    Args:
        x: (B, ...).
        mask: broadcasts to `x`, 0 or more; None: all ones.
        instances: (B,) weights of the rows; they multiply the numerator only.
    """
    weighted = x if instances is None else x * instances.view(-1, *[1] * (x.ndim - 1))
    if mask is None:
        return weighted.mean() if dims is None else weighted.mean(dims, keepdim=True)
    mask = mask.expand(x.shape).to(x.dtype)
    if dims is None:
        return (weighted * mask).sum() / mask.sum().clamp(min=_TINY)
    return (weighted * mask).sum(dims, keepdim=True) / mask.sum(dims, keepdim=True).clamp(min=_TINY)


def away_from(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, *size), mean 1: high where the attention to the subject is low; no gradient. U: convert_attn_to_spatial_weight.

    w = exp(-(a - mean a) / max(std a + 0.001, mean a / 2)), at most 1, divided by its mean; a: the scores' mean over heads.

    Args:
        scores: (B, heads, h, w) attention logits, summed over the subject's tokens.
    """
    a = resized(scores.detach().mean(1, keepdim=True), size)
    mean, deviation = a.mean((2, 3), keepdim=True), a.std((2, 3), keepdim=True)
    weight = torch.exp(-(a - mean) / torch.maximum(deviation + 0.001, mean / 2)).clamp(max=1)
    return weight / weight.mean((2, 3), keepdim=True)


def pooled(x: Tensor, kernel: int) -> Tensor:
    """(B, C, h, w) averaged over windows of `kernel` that step by half of it."""
    return F.avg_pool2d(x, kernel, kernel // 2)


def positions(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C): one row per position."""
    return x.flatten(2).transpose(1, 2)
