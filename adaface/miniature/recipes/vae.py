"""The VAE: 64 x 64 x 3 pixels to 16 x 16 x 4 numbers. What it cannot show, nothing that draws through it can."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaface.miniature.networks.vae import LATENT_CHANNELS, LATENT_SIDE, build_vae, load_vae, to_tensor, vae_folder
from adaface.miniature.pictures.portraits import held_out_pictures, plain_portraits, scene_portraits
from adaface.miniature.pictures.rendered import Chunk
from adaface.miniature.training import Schedule, Task
from adaface.models.precision import autocast
from adaface.perception.classes import CLASS_NAMES

# The features of a face are a twentieth of the picture and most of what tells people apart.
_FEATURES = ("l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip", "eye_g")
_FEATURE_WEIGHT, _HEAD_WEIGHT = 4.0, 1.5
_KL_WEIGHT = 1e-3  # per latent number; keeps latents bounded and smooth without costing detail


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
