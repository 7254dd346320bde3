"""Recipes of the recogniser and of the judge, which differ in all that could make them err alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adaface.miniature.measure.verification import probe, verify
from adaface.miniature.networks.alignment import RECOGNITION_SIDE, align
from adaface.miniature.networks.conv_net import save_onnx
from adaface.miniature.networks.margin import PeopleHead, known_factors
from adaface.miniature.networks.recogniser import (
    ID_DIM,
    NETWORKS,
    EmbeddingNet,
    embed_portraits,
    load_recogniser,
    recogniser_file,
    to_input,
)
from adaface.miniature.pictures.augment import degrade, jitter_points
from adaface.miniature.pictures.photo_albums import HELD_OUT, Album, decode, load_album
from adaface.miniature.pictures.rendered import Chunk
from adaface.miniature.training import Schedule, Task
from adaface.models.precision import autocast

# People whom no network has seen: photographs without sunglasses in plain light, and pictures of all kinds.
HELD_OUT_ALBUMS = {
    "photo": Album("held-photo", HELD_OUT, 300, 8, "photo"),
    "any": Album("held-any", HELD_OUT + 1, 300, 8, "any"),
}
# Error of the five points, of the distance of the eyes: in training up to, and in the evaluation.
TRAINING_JITTER, EVALUATION_JITTER = 0.035, 0.025
_WEIGHTS = {"margin": 0.4, "measures": 3.0, "choices": 1.5, "norm": 1.0}


class RecogniserTask(Task):
    """12,000 people with eight pictures each; their centres are a function of who they are (`PeopleHead`)."""

    name, folder = "recogniser", "pack"
    album = Album("recogniser", 310_001, 12_000, 8)
    schedule = Schedule(steps=2400, batch=128, lr=2e-3)
    scale, margin, smooth = 22.0, 0.30, True
    mirrored = 0.0  # share of the pictures
    initial_seed: int | None = None  # None: torch's, which the caller has set

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.data, self.device = data, device
        with self._chance():
            self.net: EmbeddingNet = NETWORKS[self.folder]().to(device)

    @cached_property
    def rows(self) -> Chunk:
        return load_album(self.data, self.album)

    @cached_property
    def head(self) -> PeopleHead:
        _, first = np.unique(self.rows["person"], return_index=True)
        factors = known_factors(self.rows["factors"][first])
        warmup = self.schedule.steps // 3
        with self._chance():
            head = PeopleHead(factors, ID_DIM, scale=self.scale, margin=self.margin, warmup=warmup, smooth=self.smooth)
        return head.to(self.device)

    @cached_property
    def modules(self) -> dict[str, nn.Module]:  # type: ignore[override]
        return {"network": self.net, "head": self.head}

    def lr_scale(self, module: str) -> float:
        # a person of one's own comes up once in a hundred steps
        return 5.0 if module == "head" and not self.smooth else 1.0

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        index = rng.integers(len(self.rows["person"]), size=batch)
        person = torch.from_numpy(self.rows["person"][index].astype(np.int64)).to(self.device)
        x = to_input([self._crop(row, rng) for row in index]).to(self.device)
        with autocast(self.device):
            features = self.net.features(x)
        raw = self.net.embedding(features.float())
        losses = self.head(raw, person)
        total = torch.stack([_WEIGHTS[name] * value for name, value in losses.items()]).sum()
        return total, {name: float(value.detach()) for name, value in losses.items()}

    def evaluate(self) -> dict[str, float]:
        out: dict[str, float] = {}
        for name, album in HELD_OUT_ALBUMS.items():
            rows = load_album(self.data, album)
            embeddings = embed_rows(self.net, rows)
            measures = verify(embeddings, np.asarray(rows["person"]))
            measures |= probe(embeddings, np.asarray(rows["factors"]), np.asarray(rows["person"]))
            out |= {f"{name}_{key}": round(value, 4) for key, value in measures.items()}
        return out

    def export(self, folder: Path) -> None:
        save_onnx(self.net, recogniser_file(folder, self.folder), RECOGNITION_SIDE)

    def load(self, folder: Path) -> None:
        self.net.load_state_dict(load_recogniser(folder, self.folder).state_dict())
        self.net.eval()
        self.modules = {"network": self.net}  # the head needs the training pictures, and measuring does not need it

    @contextmanager
    def _chance(self) -> Iterator[None]:
        """First weights by `initial_seed`."""
        with torch.random.fork_rng(devices=[], enabled=self.initial_seed is not None):
            if self.initial_seed is not None:
                torch.manual_seed(self.initial_seed)
            yield

    def _crop(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """uint8 (112, 112, 3) RGB of one row of the album, as a detector and a camera might have left it."""
        points = jitter_points(self.rows["landmarks"][row], rng.uniform(0, TRAINING_JITTER), rng)
        crop = degrade(align(decode(self.rows["photo"][row]), points), rng)
        across = -1 if self.mirrored and rng.random() < self.mirrored else 1
        return crop[:, ::across, ::-1]


class JudgeTask(RecogniserTask):
    """Another network, other people, other pictures of them, mirrored or not, and a centre for each person, as in ArcFace.

    It shares neither weights nor data with the recogniser, so that what has learned to please the one does not please
    the other for it.
    """

    name, folder = "judge", "judge"
    album = Album("judge", 320_001, 8_000, 8)
    schedule = Schedule(steps=2400, batch=128, lr=2e-3)
    scale, margin, smooth = 20.0, 0.25, False
    mirrored = 0.5
    initial_seed = 77


def embed_rows(net: nn.Module, rows: Chunk) -> np.ndarray:
    """Unit embeddings float32 (N, 64) of the rows of an album, cut out by slightly wrong landmarks."""
    rng = np.random.default_rng(HELD_OUT)
    images = [decode(photo)[:, :, ::-1] for photo in rows["photo"]]
    points = np.stack([jitter_points(face, EVALUATION_JITTER, rng) for face in rows["landmarks"]])
    return embed_portraits(net, images, points).numpy()
