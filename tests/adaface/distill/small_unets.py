"""UNets for tests: the miniature's with random weights, Stable Diffusion 1.5's without any."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from adaface.miniature.networks.diffusion import build_unet

TOKENS = 11


@dataclass(frozen=True)
class Inputs:
    """x (B, 4, 16, 16), t (B,), states (B, 11, 128)."""

    x: Tensor
    t: Tensor
    states: Tensor

    def __iter__(self):
        return iter((self.x, self.t, self.states))


def miniature(seed: int = 3) -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = build_unet()
    return unet.eval().requires_grad_(False)


def inputs(batch: int, seed: int = 7) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 4, 16, 16, generator=generator)
    t = torch.randint(0, 1000, (batch,), generator=generator)
    return Inputs(x, t, torch.randn(batch, TOKENS, 128, generator=generator))


def stable_diffusion() -> UNet2DConditionModel:
    """The real layout on the meta device: shapes without numbers."""
    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768).eval()
