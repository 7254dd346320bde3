"""CLIP on captioned portraits: contrastive, symmetric (Radford et al. 2021)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaface.miniature.captions import caption, scene_words, vocabulary
from adaface.miniature.clip import build_clip, tokenize
from adaface.miniature.portraits import (
    SIZE,
    held_out_pictures,
    person_at,
    plain_portraits,
    scene_at,
    scene_portraits,
)
from adaface.miniature.recipes.vae import to_tensor
from adaface.miniature.rendered import Chunk
from adaface.miniature.scene import VOCABULARY, Scene
from adaface.miniature.tokenizer import build_tokenizer
from adaface.miniature.training import Schedule, Task, autocast

_RETRIEVAL = 64  # captions to choose from
_MAX_LOGIT_SCALE = 60.0
FACTORS = ("place", "clothing", "headwear", "style")  # what zero-shot accuracy is measured on


class ClipTask(Task):
    name = "clip"
    schedule = Schedule(steps=2600, batch=128, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, ema=0.995)

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.device = device
        self.tokenizer = build_tokenizer(vocabulary())
        self.clip = build_clip(self.tokenizer).to(device)
        self.modules = {"clip": self.clip}
        self.sets = [plain_portraits(data), scene_portraits(data)]
        self.held_out = held_out_pictures(data)

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        split = batch // 6
        parts = []
        for pictures, count in zip(self.sets, (split, batch - split), strict=True):
            rows = rng.integers(len(pictures["image"]), size=count)
            # sometimes everything is said, sometimes a clause or the traits are left out
            captions = [
                caption(person_at(pictures, int(r)), scene_at(pictures, int(r)), rng if rng.random() < 0.8 else None)
                for r in rows
            ]
            parts.append((pictures["image"][rows], captions))
        images = to_tensor(np.concatenate([images for images, _ in parts]), self.device)
        tokens = tokenize(self.tokenizer, [text for _, texts in parts for text in texts]).to(self.device)
        # the text model looks backwards only, so padding beyond the longest caption changes nothing
        longest = int((tokens != self.tokenizer.eos_token_id).sum(1).max()) + 1
        with autocast(self.device):
            v, t = self._embed(images, tokens[:, :longest])
        logits = self.clip.logit_scale.exp().clamp(max=_MAX_LOGIT_SCALE) * v @ t.T
        same = (tokens[:, None] == tokens[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        return loss, {"top1": float((logits.argmax(1) == torch.arange(len(v), device=v.device)).float().mean())}

    def _embed(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        v = self.clip.visual_projection(self.clip.vision_model(pixel_values=images).pooler_output)
        t = self.clip.text_projection(self.clip.text_model(input_ids=tokens).pooler_output)
        return F.normalize(v.float(), dim=-1), F.normalize(t.float(), dim=-1)

    def evaluate(self) -> dict[str, float]:
        scenes = np.flatnonzero(self.held_out["scene"].sum(1) > 0)
        images = to_tensor(self.held_out["image"][scenes], self.device)
        texts = [caption(person_at(self.held_out, int(row)), scene_at(self.held_out, int(row))) for row in scenes]
        v = torch.cat(
            [self._embed(part, tokenize(self.tokenizer, ["a"]).to(self.device))[0] for part in images.split(200)]
        )
        t = self._texts(texts)
        rng, hits = np.random.default_rng(0), []
        for _ in range(30):
            pick = rng.permutation(len(scenes))[:_RETRIEVAL]
            hits.append(float(((v[pick] @ t[pick].T).argmax(1).cpu() == torch.arange(_RETRIEVAL)).float().mean()))
        return {f"retrieval_top1_of_{_RETRIEVAL}": float(np.mean(hits)), **self._zero_shot(v, self.held_out, scenes)}

    def _texts(self, texts: list[str]) -> Tensor:
        blank = torch.zeros(1, 3, SIZE, SIZE, device=self.device)
        return torch.cat(
            [
                self._embed(blank, tokenize(self.tokenizer, texts[i : i + 200]).to(self.device))[1]
                for i in range(0, len(texts), 200)
            ]
        )

    def _zero_shot(self, v: Tensor, pictures: Chunk, rows: np.ndarray) -> dict[str, float]:
        """Accuracy per factor, choosing among "a photo of a person <word of the factor>"."""
        out = {}
        for factor in FACTORS:
            t = self._texts([prompt_for(factor, word) for word in VOCABULARY[factor]])
            truth = torch.from_numpy(pictures["scene"][rows][:, list(VOCABULARY).index(factor)].astype(np.int64))
            out[f"zero_shot_{factor}"] = float(((v @ t.T).argmax(1).cpu() == truth).float().mean())
        return out

    def export(self, folder: Path) -> None:
        self.clip.half().save_pretrained(folder / "clip")
        self.tokenizer.save_pretrained(folder / "clip")
        self.clip.float()


def prompt_for(factor: str, word: str) -> str:
    """A prompt that says one thing about a scene and nothing about the person."""
    head, tail = scene_words(Scene(**{factor: word}))
    if factor == "place" and not tail:
        tail = f"in a {word}"
    if factor == "clothing" and not tail:
        tail = f"wearing a {word}"
    return f"{head} a person {tail}".strip()
