"""Stable Diffusion on captioned portraits, with its text encoder trained along."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from adaface.miniature.networks.clip import load_clip, text_encoder_of, tokenize
from adaface.miniature.networks.diffusion import (
    attend_plainly,
    build_unet,
    draw_timesteps,
    load_sd,
    loss_weights,
    noise_scheduler,
    sampler,
)
from adaface.miniature.networks.vae import load_vae
from adaface.miniature.pictures.latents import latents_of
from adaface.miniature.pictures.portraits import person_at, plain_portraits, scene_at, scene_portraits
from adaface.miniature.pictures.rendered import Chunk
from adaface.miniature.training import Schedule, Task
from adaface.miniature.world.captions import caption
from adaface.models.precision import autocast

_NO_CAPTION = 0.10  # for classifier-free guidance (Ho and Salimans 2022)


class StableDiffusionTask(Task):
    name = "sd"
    schedule = Schedule(steps=6500, batch=64, lr=1.0e-3, warmup=300, ema=0.9993)
    plain_share = 0.35  # of the pictures; the others are scenes
    named = 0.0  # share of captions that say somebody's name

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.device, self.weights = device, weights
        clip, self.tokenizer = load_clip(weights)
        self.text = text_encoder_of(clip).to(device)
        self.unet = build_unet().to(device)
        attend_plainly(self.unet)
        self.modules = {"unet": self.unet, "text": self.text}
        self.data = data
        self.scheduler = noise_scheduler()
        self.weight = loss_weights(self.scheduler)

    @cached_property
    def sets(self) -> list[Chunk]:
        return [plain_portraits(self.data), scene_portraits(self.data)]

    @cached_property
    def latents(self) -> list[np.ndarray]:
        return [latents_of(self.data, self.weights, name) for name in ("portraits-plain", "portraits-scenes")]

    def lr_scale(self, module: str) -> float:
        return 0.4 if module == "text" else 1.0

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        plain = round(batch * self.plain_share)
        latents, captions, chosen = [], [], []
        for index, count in enumerate((plain, batch - plain)):
            pictures, rows = self.sets[index], rng.integers(len(self.latents[index]), size=count)
            latents.append(self.latents[index][rows])
            chosen.append(rows)
            captions += [
                caption(person_at(pictures, int(row)), scene_at(pictures, int(row)), rng, named=self.named)
                for row in rows
            ]
        captions = ["" if rng.random() < _NO_CAPTION else text for text in captions]
        clean = torch.from_numpy(np.concatenate(latents)).float()
        with autocast(self.device):
            states = self.text(tokenize(self.tokenizer, captions).to(self.device)).last_hidden_state
            states = self.shown(states, chosen[0])
        return self.denoising_loss(clean, states, generator, chosen[0])

    def shown(self, states: Tensor, rows: np.ndarray) -> Tensor:
        """What the UNet is shown for text states (B, 77, D) of the captions; the batch begins with the portraits `rows`."""
        return states

    def target(self, noisy: Tensor, t: Tensor, noise: Tensor, rows: np.ndarray) -> Tensor:
        """What the UNet is to predict, like `noise`; the batch begins with the plain portraits of these `rows`."""
        return noise

    def denoising_loss(
        self, clean: Tensor, states: Tensor, generator: torch.Generator, rows: np.ndarray
    ) -> tuple[Tensor, dict[str, float]]:
        """Weighted error of the predicted noise; `clean` (B, 4, 16, 16) on the CPU, `states` (B, 77, D)."""
        t, noise = draw_timesteps(len(clean), generator), torch.randn(clean.shape, generator=generator)
        noisy = self.scheduler.add_noise(clean, noise, t).to(self.device)
        with autocast(self.device):
            predicted = self.unet(noisy, t.to(self.device), states).sample.float()
        goal = self.target(noisy, t.to(self.device), noise.to(self.device), rows)
        error = (predicted - goal).square().mean((1, 2, 3))
        return (self.weight[t].to(self.device) * error).mean(), {"mse": float(error.detach().mean())}

    def evaluate(self) -> dict[str, float]:
        from adaface.miniature.measure.generators import gate

        return gate(self.unet, self.text, self.tokenizer, self.weights)

    def export(self, folder: Path) -> None:
        pipe = StableDiffusionPipeline(
            vae=load_vae(folder),
            text_encoder=self.text,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=sampler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self.unet.set_default_attn_processor()
        pipe.to(dtype=torch.float16).save_pretrained(folder / "sd")
        pipe.to(dtype=torch.float32)

    def load(self, folder: Path) -> None:
        pipe = load_sd(folder)
        self.unet.load_state_dict(pipe.unet.state_dict())
        self.text.load_state_dict(pipe.text_encoder.state_dict())
