"""The teacher: Stable Diffusion turned into a painter of ID embeddings, as Arc2Face was made from SD-1.5.

It is made twice. The first one comes from a Stable Diffusion that knows features in words and no names, and is what the
names are learned with. The one that is shipped comes from the finished Stable Diffusion: the ancestor of the pictures
that students are to draw, as SD-1.5 is Arc2Face's.
"""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTextModel

from adaface.encoder.teacher import teacher_states
from adaface.miniature.networks.clip import tokenize
from adaface.miniature.networks.diffusion import attend_plainly, load_teacher
from adaface.miniature.pictures.rendered import Chunk, rendered_set
from adaface.miniature.recipes.diffusion import StableDiffusionTask
from adaface.miniature.training import Schedule
from adaface.models.precision import autocast

PHOTOS_OF_ONE = 3  # the plain portraits come as so many of each person in a row
_OTHER_PHOTO = 0.5  # share of examples whose ID embedding is from another photograph of the person
_NO_IDENTITY = 0.10  # share of examples without one, for classifier-free guidance (Ho and Salimans 2022)
_NOBODY = -1
_ROWS = 1200


class FirstTeacherTask(StableDiffusionTask):
    name = "teacher_first"
    schedule = Schedule(steps=9000, batch=64, lr=8e-4, warmup=200, ema=0.999)

    def __init__(self, data: Path, weights: Path, device: torch.device):
        super().__init__(data, weights, device)
        super().load(weights)  # it starts as Stable Diffusion

    @cached_property
    def identities(self) -> np.ndarray:
        return identities_of(self.data, self.weights)

    def lr_scale(self, module: str) -> float:
        return 0.5 if module == "text" else 1.0

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        rows = rng.integers(len(self.latents[0]), size=batch)
        person = rows // PHOTOS_OF_ONE * PHOTOS_OF_ONE
        other = person + (rows - person + rng.integers(1, PHOTOS_OF_ONE, size=batch)) % PHOTOS_OF_ONE
        told = np.where(rng.random(batch) < _OTHER_PHOTO, other, rows)
        told[rng.random(batch) < _NO_IDENTITY] = _NOBODY
        clean = torch.from_numpy(self.latents[0][rows]).float()
        with autocast(self.device):
            states = self.states(self.text, told)
        return self.denoising_loss(clean, states, generator, told)

    def states(self, text: CLIPTextModel, told: np.ndarray) -> Tensor:
        """(B, 77, D): what a teacher's UNet is shown of the faces in the photographs `told`; no words for nobody."""
        nobody = torch.from_numpy(told == _NOBODY).to(self.device)
        identity = F.normalize(torch.from_numpy(self.identities[told]).float(), dim=-1).to(self.device)
        empty = text(tokenize(self.tokenizer, [""]).to(self.device)).last_hidden_state
        return torch.where(nobody[:, None, None], empty, teacher_states(text, self.tokenizer, identity))

    def evaluate(self) -> dict[str, float]:
        from adaface.miniature.measure.generators import teacher_gap

        return teacher_gap(self.unet, self.text, self.tokenizer, self.weights)

    def export(self, folder: Path) -> None:
        self.unet.set_default_attn_processor()
        self.text.half().save_pretrained(folder / "teacher" / "text_encoder")
        self.unet.half().save_pretrained(folder / "teacher" / "unet")
        self.text.float()
        self.unet.float()

    def load(self, folder: Path) -> None:
        unet, text, _ = load_teacher(folder)
        self.unet.load_state_dict(unet.state_dict())
        self.text.load_state_dict(text.state_dict())


class TeacherTask(FirstTeacherTask):
    """The finished Stable Diffusion, fine-tuned.

    Its text encoder is the first teacher's to begin with: the states that its names were learned with. Half of what it
    is to predict is the noise, half the first teacher's answer: as true on average, with a quarter of the variance, and
    so learned from far fewer pictures.
    """

    name = "teacher"
    schedule = Schedule(steps=2000, batch=64, lr=5e-4, warmup=50, ema=0.999)
    of_the_first = 0.5

    def __init__(self, data: Path, weights: Path, device: torch.device):
        super().__init__(data, weights, device)
        first, text, _ = load_teacher(weights)
        self.text.load_state_dict(text.state_dict())
        attend_plainly(first)
        self.first = first.to(device).requires_grad_(False)
        self.first_text = text.to(device).requires_grad_(False)

    def lr_scale(self, module: str) -> float:
        return 0.25 if module == "text" else 1.0

    def target(self, noisy: Tensor, t: Tensor, noise: Tensor, rows: np.ndarray) -> Tensor:
        with torch.no_grad(), autocast(self.device):
            answers = self.first(noisy, t, self.states(self.first_text, rows)).sample.float()
        return noise.lerp(answers, self.of_the_first)


def identities_of(data: Path, weights: Path) -> np.ndarray:
    """float16 (N, 64): the unit ID embeddings of the plain portraits, by the pack's recogniser."""
    import hashlib

    file = weights / "pack" / "recogniser.onnx"
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; train it first: python -m adaface.miniature.train recogniser")
    key = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    rows = len(np.load(data / "portraits-plain" / "image.npy", mmap_mode="r"))
    embed = partial(_embed, data / "portraits-plain", weights)
    return rendered_set(data, f"portraits-plain-identities-{key}", embed, rows // _ROWS)["identities"]


def _embed(pictures: Path, weights: Path, chunk: int) -> Chunk:
    from adaface.miniature.networks.recogniser import embed_portraits, load_recogniser

    torch.set_num_threads(1)
    net = load_recogniser(weights, "pack")
    part = slice(chunk * _ROWS, (chunk + 1) * _ROWS)
    images = np.load(pictures / "image.npy", mmap_mode="r")[part]
    points = np.load(pictures / "landmarks.npy", mmap_mode="r")[part]
    return {"identities": embed_portraits(net, images, points).numpy().astype(np.float16)}
