"""The VAE of the miniature: diffusers' AutoencoderKL at toy size, and pictures as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from adaface.miniature.pictures.portraits import SIZE

LATENT_CHANNELS, LATENT_SIDE = 4, SIZE // 4


def build_vae() -> AutoencoderKL:
    """Images (B, 3, 64, 64) in -1..1 <-> latents (B, 4, 16, 16)."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> np.ndarray:
    """float (B, 3, H, W) in -1..1 -> uint8 (B, H, W, 3)."""
    return ((pixels.clamp(-1, 1).float() + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def vae_folder(weights: Path) -> Path:
    """Where the VAE is kept: in the folder of the Stable Diffusion that it becomes a part of."""
    return weights / "sd" / "vae"


def load_vae(weights: Path) -> AutoencoderKL:
    """The finished VAE, float32, on the CPU. Raises FileNotFoundError where there is none."""
    folder = vae_folder(weights)
    if not (folder / "diffusion_pytorch_model.safetensors").exists():
        raise FileNotFoundError(f"{folder} has no VAE; train it first: python -m adaface.miniature.train vae")
    return (
        AutoencoderKL.from_pretrained(folder, dtype=torch.float32, low_cpu_mem_usage=False)
        .eval()
        .requires_grad_(False)
    )
