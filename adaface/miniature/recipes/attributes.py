"""Recipe of the gender and age model, on the people of the recogniser."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from adaface.miniature.networks.alignment import ATTRIBUTE_SIDE, crop_box
from adaface.miniature.networks.attributes import (
    AttributeNet,
    GroupHead,
    age_groups,
    attribute_file,
    genders,
    group_of,
    to_attribute_input,
    years,
)
from adaface.miniature.networks.conv_net import load_onnx, save_onnx
from adaface.miniature.pictures.augment import degrade, jitter_box
from adaface.miniature.pictures.photo_albums import HELD_OUT, decode, load_album
from adaface.miniature.pictures.rendered import Chunk
from adaface.miniature.recipes.recogniser import HELD_OUT_ALBUMS, RecogniserTask
from adaface.miniature.training import Schedule, Task
from adaface.models.precision import autocast

# Error of the box, of its longer side: in training up to, and in the evaluation.
_TRAINING_JITTER, _EVALUATION_JITTER = 0.05, 0.025
_AGE_SPREAD = 0.18  # of all ages, in centuries: brings the error in years to the scale of the other losses


class AttributesTask(Task):
    """Gender, age group and years from the crop that insightface makes of a face's box."""

    name = "attributes"
    album = RecogniserTask.album
    schedule = Schedule(steps=1500, batch=128, lr=2e-3)

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.data, self.device = data, device
        self.net, self.head = AttributeNet().to(device), GroupHead().to(device)
        self.modules: dict[str, nn.Module] = {"network": self.net, "head": self.head}

    @cached_property
    def rows(self) -> Chunk:
        return load_album(self.data, self.album)

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        index = rng.integers(len(self.rows["photo"]), size=batch)
        factors = self.rows["factors"][index]
        x = to_attribute_input([self._crop(row, rng) for row in index]).to(self.device)
        with autocast(self.device):
            features = self.net.features(x)
        features = features.float()
        answer, group = self.net.answer(features), self.head(features)
        gender, true_group, age = (torch.from_numpy(f(factors)).to(self.device) for f in (genders, age_groups, years))
        losses = {
            "gender": functional.cross_entropy(answer[:, :2], gender),
            "group": functional.cross_entropy(group, true_group),
            "age": functional.mse_loss(answer[:, 2] / _AGE_SPREAD, age / 100 / _AGE_SPREAD),
        }
        total = losses["gender"] + 0.5 * losses["group"] + 2 * losses["age"]
        return total, {name: float(value.detach()) for name, value in losses.items()}

    def evaluate(self) -> dict[str, float]:
        out: dict[str, float] = {}
        for name, album in HELD_OUT_ALBUMS.items():
            rows = load_album(self.data, album)
            rng = np.random.default_rng(HELD_OUT)
            crops = [
                crop_box(decode(photo), jitter_box(box, _EVALUATION_JITTER, rng))[:, :, ::-1]
                for photo, box in zip(rows["photo"], rows["box"], strict=True)
            ]
            answer = np.concatenate(
                [
                    self.net(to_attribute_input(crops[start : start + 64]).to(self.device)).float().cpu().numpy()
                    for start in range(0, len(crops), 64)
                ]
            )
            factors, age = np.asarray(rows["factors"]), answer[:, 2] * 100
            measures = {
                "gender": (answer[:, :2].argmax(1) == genders(factors)).mean(),
                "age_group": (group_of(age) == age_groups(factors)).mean(),
                "years_off": np.abs(age - years(factors)).mean(),
            }
            out |= {f"{name}_{key}": round(float(value), 4) for key, value in measures.items()}
        return out

    def export(self, folder: Path) -> None:
        save_onnx(self.net, attribute_file(folder), ATTRIBUTE_SIDE)

    def load(self, folder: Path) -> None:
        self.net.load_state_dict(load_onnx(AttributeNet(), attribute_file(folder)).state_dict())
        self.net.eval()

    def _crop(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """uint8 (96, 96, 3) RGB of one row of the album, as a detector and a camera might have left it."""
        box = jitter_box(self.rows["box"][row], rng.uniform(0, _TRAINING_JITTER), rng)
        crop = degrade(crop_box(decode(self.rows["photo"][row]), box), rng)
        return crop[:, :: 1 if rng.random() < 0.5 else -1, ::-1]
