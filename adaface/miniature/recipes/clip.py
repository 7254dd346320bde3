"""CLIP on captioned portraits: contrastive, symmetric (Radford et al. 2021), with questions.

Faces and places alone tell the pictures of a batch apart, so nothing makes the model look at a hat or at a style.
Therefore each picture is also compared with short captions that say one thing each, all the words of a factor in turn.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaface.miniature.networks.clip import build_clip, load_clip, tokenize
from adaface.miniature.networks.tokenizer import build_tokenizer
from adaface.miniature.networks.vae import to_tensor
from adaface.miniature.pictures.portraits import (
    held_out_pictures,
    person_at,
    plain_portraits,
    scene_at,
    scene_portraits,
)
from adaface.miniature.pictures.rendered import Chunk
from adaface.miniature.training import Schedule, Task
from adaface.miniature.world.captions import caption, prompt_for, vocabulary
from adaface.miniature.world.identity import CLASS_WORDS
from adaface.miniature.world.scene import VOCABULARY
from adaface.models.precision import autocast

_MAX_LOGIT_SCALE = 60.0


class ClipTask(Task):
    name = "clip"
    schedule = Schedule(steps=1600, batch=96, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, ema=0.995)

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.device = device
        self.tokenizer = build_tokenizer(vocabulary())
        self.clip = build_clip(self.tokenizer).to(device)
        self.modules = {"clip": self.clip}
        self.data = data

    @cached_property
    def sets(self) -> list[Chunk]:
        return [plain_portraits(self.data), scene_portraits(self.data)]

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        split = batch // 6
        images, captions, scenes = [], [], []
        for pictures, count in zip(self.sets, (split, batch - split), strict=True):
            rows = rng.integers(len(pictures["image"]), size=count)
            images.append(pictures["image"][rows])
            scenes.append(pictures["scene"][rows])
            captions += [caption(person_at(pictures, int(r)), scene_at(pictures, int(r)), rng) for r in rows]
        questions = {factor: _questions(factor, rng) for factor in VOCABULARY}
        asked = [text for texts in questions.values() for text in texts]
        tokens, prompts = self._tokens(captions), self._tokens(asked)
        with autocast(self.device):
            v = self._images(to_tensor(np.concatenate(images), self.device))
            t, words = self._texts(tokens), self._texts(prompts)
        scale = self.clip.logit_scale.exp().clamp(max=_MAX_LOGIT_SCALE)
        logits = scale * v @ t.T
        same = (tokens[:, None] == tokens[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        truth = torch.from_numpy(np.concatenate(scenes).astype(np.int64)).to(self.device)
        parts = words.split([len(texts) for texts in questions.values()])
        answers = torch.stack([F.cross_entropy(scale * v @ part.T, truth[:, i]) for i, part in enumerate(parts)])
        top1 = (logits.argmax(1) == torch.arange(len(v), device=v.device)).float().mean()
        numbers = {
            "contrast": float(contrast.detach()),
            "factors": float(answers.detach().mean()),
            "top1": float(top1),
        }
        return contrast + answers.mean(), numbers

    def _tokens(self, texts: list[str]) -> Tensor:
        """The text model looks backwards only, so positions beyond the longest text change nothing and are left out."""
        tokens = tokenize(self.tokenizer, texts).to(self.device)
        longest = int((tokens != self.tokenizer.eos_token_id).sum(1).max()) + 1
        return tokens[:, :longest]

    def _images(self, images: Tensor) -> Tensor:
        pooled = self.clip.vision_model(pixel_values=images).pooler_output
        return F.normalize(self.clip.visual_projection(pooled).float(), dim=-1)

    def _texts(self, tokens: Tensor) -> Tensor:
        pooled = self.clip.text_model(input_ids=tokens).pooler_output
        return F.normalize(self.clip.text_projection(pooled).float(), dim=-1)

    def evaluate(self) -> dict[str, float]:
        from adaface.miniature.measure.retrieval import retrieval_rows

        return retrieval_rows(self.clip, self.tokenizer, held_out_pictures(self.data))

    def export(self, folder: Path) -> None:
        self.clip.half().save_pretrained(folder / "clip")
        self.tokenizer.save_pretrained(folder / "clip")
        self.clip.float()

    def load(self, folder: Path) -> None:
        self.clip.load_state_dict(load_clip(folder)[0].state_dict())


def _questions(factor: str, rng: np.random.Generator) -> list[str]:
    """For each word of a factor a caption that says it and nothing else; all in the same wording."""
    subject = str(rng.choice(("person", *CLASS_WORDS)))
    seed = int(rng.integers(2**62)) if rng.random() < 0.5 else None
    return [prompt_for(factor, word, subject, seed) for word in VOCABULARY[factor]]
