"""The VAE: 64 x 64 x 3 pixels to 16 x 16 x 4 numbers. What it cannot show, nothing that draws through it can."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from adaface.miniature.portraits import SIZE, held_out_pictures, plain_portraits, scene_portraits
from adaface.miniature.rendered import Chunk
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
        self.data = data

    @cached_property
    def sets(self) -> list[Chunk]:
        return [plain_portraits(self.data), scene_portraits(self.data)]

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
        from adaface.miniature.measure.reconstruction import latent_scale, reconstruction_rows

        pictures = {key: values[::4] for key, values in held_out_pictures(self.data).items()}
        self.vae.register_to_config(scaling_factor=latent_scale(self.vae, pictures["image"]))
        return reconstruction_rows(self.vae, pictures)

    def export(self, folder: Path) -> None:
        self.vae.half().save_pretrained(vae_folder(folder))
        self.vae.float()

    def load(self, folder: Path) -> None:
        self.vae.load_state_dict(load_vae(folder).state_dict())


def vae_folder(weights: Path) -> Path:
    """Where the VAE is kept: in the folder of the Stable Diffusion that it becomes a part of."""
    return weights / "sd" / "vae"


def load_vae(weights: Path) -> AutoencoderKL:
    """The finished VAE, float32, on the CPU. Raises FileNotFoundError where there is none."""
    folder = vae_folder(weights)
    if not (folder / "diffusion_pytorch_model.safetensors").exists():
        raise FileNotFoundError(f"{folder} has no VAE; train it first: python -m adaface.miniature.train vae")
    return AutoencoderKL.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
