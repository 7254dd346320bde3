"""The factor classifier on rendered pictures, blurred and noised as generated ones are."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from adaface.miniature.networks.factors import FactorClassifier, read_factors
from adaface.miniature.networks.vae import to_tensor
from adaface.miniature.pictures.portraits import held_out_pictures, plain_portraits, scene_portraits
from adaface.miniature.pictures.rendered import Chunk
from adaface.miniature.training import Schedule, Task
from adaface.miniature.world.scene import VOCABULARY
from adaface.models.precision import autocast


class FactorsTask(Task):
    name = "factors"
    schedule = Schedule(steps=1500, batch=96, lr=2e-3, weight_decay=0.02, ema=0.99)

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.device = device
        self.net = FactorClassifier().to(device)
        self.modules = {"net": self.net}
        self.data = data

    @cached_property
    def sets(self) -> list[Chunk]:
        return [plain_portraits(self.data), scene_portraits(self.data)]

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        plain = batch // 8
        images, scenes = [], []
        for pictures, count in zip(self.sets, (plain, batch - plain), strict=True):
            rows = rng.integers(len(pictures["image"]), size=count)
            images.append(pictures["image"][rows])
            scenes.append(pictures["scene"][rows])
        x = _soften(to_tensor(np.concatenate(images), self.device), rng, generator)
        truth = torch.from_numpy(np.concatenate(scenes).astype(np.int64)).to(self.device)
        with autocast(self.device):
            logits = self.net(x)
        losses = [F.cross_entropy(logits[name], truth[:, i]) for i, name in enumerate(VOCABULARY)]
        return torch.stack(losses).mean(), {}

    def evaluate(self) -> dict[str, float]:
        pictures = held_out_pictures(self.data)
        rows = np.flatnonzero(pictures["scene"].sum(1) > 0)
        found = read_factors(self.net, to_tensor(pictures["image"][rows], self.device))
        truth = torch.from_numpy(pictures["scene"][rows].astype(np.int64))
        return {name: float((found[name] == truth[:, i]).float().mean()) for i, name in enumerate(VOCABULARY)}

    def export(self, folder: Path) -> None:
        (folder / "factors").mkdir(parents=True, exist_ok=True)
        state = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.net.state_dict().items()
        }
        save_file(state, folder / "factors" / "classifier.safetensors")

    def load(self, folder: Path) -> None:
        self.net.load_state_dict(FactorClassifier.load(folder).state_dict())


def _soften(x: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """What a VAE and a short sampling do to a picture: less detail, a little noise, shifted tones."""
    kind = rng.random()
    if kind < 0.4:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    elif kind < 0.55:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False)
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return x * float(rng.uniform(0.85, 1.1)) + float(rng.normal(0, 0.05)) + noise * float(rng.uniform(0, 0.12))
