"""The latents of the portrait sets: encoded once per VAE, kept beside the pictures."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch

from adaface.miniature.networks.vae import load_vae, to_tensor, vae_folder
from adaface.miniature.pictures.rendered import Chunk, rendered_set
from adaface.models.precision import autocast

_ROWS = 1200  # of one chunk; divides the sizes of the portrait sets


def latents_of(data: Path, weights: Path, name: str) -> np.ndarray:
    """float16 (N, 4, 16, 16), scaled to unit variance: the means of the VAE in `weights` for the set `data / name`."""
    load_vae(weights)  # says what to do when it is missing, before anything is started
    file = vae_folder(weights) / "diffusion_pytorch_model.safetensors"
    key = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    rows = len(np.load(data / name / "image.npy", mmap_mode="r"))
    made = rendered_set(data, f"{name}-latents-{key}", partial(_encode, data / name, weights), rows // _ROWS)
    return made["latents"]


@torch.inference_mode()
def _encode(pictures: Path, weights: Path, chunk: int) -> Chunk:
    torch.set_num_threads(1)
    vae = load_vae(weights)
    images = np.load(pictures / "image.npy", mmap_mode="r")[chunk * _ROWS : (chunk + 1) * _ROWS]
    cpu = torch.device("cpu")
    with autocast(cpu):
        parts = [vae.encode(part).latent_dist.mean.float() for part in to_tensor(images, cpu).split(100)]
    return {"latents": (torch.cat(parts) * vae.config.scaling_factor).numpy().astype(np.float16)}
