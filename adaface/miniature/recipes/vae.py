"""The VAE: 64 x 64 x 3 pixels to 16 x 16 x 4 numbers. What it cannot show, nothing that draws through it can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from adaface.miniature.portraits import SIZE, held_out_pictures, plain_portraits, scene_portraits
from adaface.miniature.training import Schedule, Task, autocast
from adaface.perception.classes import CLASS_NAMES

LATENT_CHANNELS, LATENT_SIDE = 4, SIZE // 4
# The features of a face are a twentieth of the picture and most of what tells people apart.
_FEATURES = ("l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip", "eye_g")
_FEATURE_WEIGHT, _HEAD_WEIGHT = 4.0, 1.5
_KL_WEIGHT = 1e-3  # per latent number; keeps latents bounded and smooth without costing detail


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


def pixel_weights(classes: np.ndarray) -> np.ndarray:
    """uint8 (B, H, W) class ids -> float32 (B, 1, H, W): how much an error there counts."""
    table = np.full(len(CLASS_NAMES), _HEAD_WEIGHT, np.float32)
    table[CLASS_NAMES.index("background")] = table[CLASS_NAMES.index("cloth")] = 1
    table[[CLASS_NAMES.index(name) for name in _FEATURES]] = _FEATURE_WEIGHT
    return table[classes][:, None]


class VaeTask(Task):
    name = "vae"
    schedule = Schedule(steps=8000, batch=8, lr=2e-3, weight_decay=1e-4, ema=0.998)

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.device = device
        self.vae = build_vae().to(device)
        self.modules = {"vae": self.vae}
        self.sets = [plain_portraits(data), scene_portraits(data)]
        self.held_out = held_out_pictures(data)

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        pictures = self.sets[int(rng.random() < 0.65)]
        rows = np.sort(rng.integers(len(pictures["image"]), size=batch))
        images, classes = pictures["image"][rows], pictures["classes"][rows]
        if rng.random() < 0.5:
            images, classes = images[:, :, ::-1], classes[:, :, ::-1]
        x = to_tensor(images, self.device)
        weights = torch.from_numpy(pixel_weights(classes)).to(self.device)
        with autocast(self.device):
            posterior = self.vae.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(self.device)
            y = self.vae.decode((posterior.mean + posterior.std * noise).to(x.dtype)).sample.float()
        error = y - x
        distance = (weights * error.abs()).mean() + 2 * (weights * error.square()).mean()
        kl = posterior.kl().float().mean() / (LATENT_CHANNELS * LATENT_SIDE**2)
        return distance + _KL_WEIGHT * kl, {"mse": float(error.detach().square().mean()), "kl": float(kl.detach())}

    def evaluate(self) -> dict[str, float]:
        rows = np.arange(0, len(self.held_out["image"]), 4)
        x = to_tensor(self.held_out["image"][rows], self.device)
        z = torch.cat([self.vae.encode(part).latent_dist.mean for part in x.split(50)])
        y = torch.cat([self.vae.decode(part).sample for part in z.split(50)]).clamp(-1, 1)
        psnr = -10 * ((x - y) / 2).square().mean((1, 2, 3)).log10()
        plain = torch.from_numpy(self.held_out["scene"][rows].sum(1) == 0)
        self.vae.register_to_config(scaling_factor=float(1 / z.std()))
        eye = torch.from_numpy(np.isin(self.held_out["classes"][rows], [4, 5]))
        eyes = (F.l1_loss(y, x, reduction="none").mean(1)[eye] / 2).mean()
        return {
            "psnr": float(psnr.mean()),
            "psnr_plain": float(psnr[plain].mean()),
            "psnr_scenes": float(psnr[~plain].mean()),
            "eye_error": float(eyes),
            "latent_std": float(z.std()),
        }

    def export(self, folder: Path) -> None:
        self.vae.half().save_pretrained(folder / "vae")
        self.vae.float()
