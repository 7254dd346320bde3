"""The networks of a distillation for measurements: the miniature's, or some of full size with random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModel

from adaface.distill.background import BackgroundFeatures, new_generator
from adaface.distill.clip_score import ClipScore
from adaface.distill.features import cross_attentions
from adaface.distill.initial_encoder import initial_encoder
from adaface.distill.models import FrozenModels, frozen, load_frozen
from adaface.distill.noise_schedule import NoiseSchedule
from adaface.distill.stage import Stage
from adaface.distill.task import DistillTask
from adaface.encoder.config import EncoderConfig
from adaface.encoder.model import AdaFaceEncoder
from adaface.model_path import model_path
from adaface.models.precision import Precision, products
from adaface.random_networks import TOKENIZER, NetworkSizes, default_dtype, random_text_model, random_unet

_SHIPPED = "package://adaface.miniature/weights"
_SCALE = 0.18215


@dataclass(frozen=True)
class Networks:
    """All that a `DistillTask` is made of."""

    models: FrozenModels
    encoder: AdaFaceEncoder
    clip: Any
    background: BackgroundFeatures | None

    def task(self, stage: Stage, *, seed: int = 0) -> DistillTask:
        return DistillTask(self.models, self.encoder, stage, seed=seed, clip=self.clip, background=self.background)

    def without(self, *, clip: bool = False, background: bool = False) -> Networks:
        """The same, without the CLIP that judges pictures, or without the one that sees backgrounds."""
        return replace(self, clip=None if clip else self.clip, background=None if background else self.background)

    def called(self) -> list[nn.Module]:
        """Those that steps call, but for stage 2's anchor, a pass of a text model for each composition."""
        models, encoder = self.models, self.encoder
        return [
            *(models.unet, models.teacher, models.text, models.vae.encoder, models.vae.decoder),
            *(encoder.inverse, encoder.teacher),
            *_modules_of(encoder.background),
            *_modules_of(self.clip),
            *_modules_of(self.background),
        ]


def miniature(precision: Precision, device: torch.device | str = "cpu", *, multiplier: int = 1) -> Networks:
    """The shipped ones, with a new encoder of `multiplier` keys and values per token."""
    models = load_frozen(f"{_SHIPPED}/sd", f"{_SHIPPED}/teacher/unet", device=device, precision=precision)
    background = BackgroundFeatures(f"{_SHIPPED}/clip", device)
    encoder = initial_encoder(
        init=None,
        multiplier=multiplier,
        teacher_text=f"{_SHIPPED}/teacher/text_encoder",
        text_model=f"{_SHIPPED}/sd/text_encoder",
        tokenizer=f"{_SHIPPED}/clip",
        face_pack=f"{_SHIPPED}/pack",
        seed=0,
        background=background,
        unet_layers=len(cross_attentions(models.unet)),
    ).to(device)
    return Networks(models, encoder, ClipScore(f"{_SHIPPED}/clip", device), background)


@dataclass(frozen=True)
class FullSizes(NetworkSizes):
    """With the two CLIPs: ViT-L/14, which sees backgrounds, and ViT-B/32, which judges pictures."""

    vision: dict[str, Any] = field(
        default_factory=lambda: {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "patch_size": 14,
        }
    )  # fmt: skip
    judge: dict[str, Any] = field(default_factory=dict)  # CLIPConfig's own defaults


def random_networks(
    sizes: FullSizes, precision: Precision, device: torch.device | str = "cpu", *, seed: int = 0
) -> Networks:
    """Of these sizes, with random weights: frozen ones in the precision of the products, the encoder in float32."""
    device = torch.device(device)
    chosen = products(precision, device)
    dtype = torch.bfloat16 if chosen == "bf16" else torch.float32
    tokenizer = CLIPTokenizer.from_pretrained(model_path(TOKENIZER))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, teacher = (random_unet(sizes, dtype, device) for _ in range(2))
        with default_dtype(dtype):
            text, vae = random_text_model(sizes, tokenizer), AutoencoderKL(**sizes.vae)
        for network in (unet, teacher, text, vae):
            frozen(network).to(device)
        models = FrozenModels(unet, text, tokenizer, vae, teacher, NoiseSchedule.sd15().to(device), _SCALE, chosen)
        config = EncoderConfig.for_tokenizer(
            tokenizer,
            id_dim=sizes.id_dim,
            text=dict(sizes.text),
            multipliers=[sizes.multiplier] * sizes.text["num_hidden_layers"],
        )
        encoder = AdaFaceEncoder(config, random_text_model(sizes, tokenizer))
        with _saved(CLIPVisionModel(CLIPVisionConfig(**sizes.vision))) as folder:
            background = BackgroundFeatures(str(folder), device)
        judge = CLIPConfig(**sizes.judge)
        judge.text_config.vocab_size = len(tokenizer)
        with _saved(CLIPModel(judge), tokenizer) as folder:
            clip = ClipScore(str(folder), device)
        layers = len(cross_attentions(unet))
        encoder.background, _ = new_generator(config.width, layers, background)
    return Networks(models, encoder.to(device), clip, background)


def _modules_of(thing: Any) -> list[nn.Module]:
    """Networks within what reads pictures; of a CLIP its parts, which are called one by one."""
    if isinstance(thing, CLIPModel):
        return list(thing.children())
    if isinstance(thing, nn.Module):
        return [thing]
    ours = type(thing).__module__.startswith("adaface.")
    return [module for part in vars(thing).values() for module in _modules_of(part)] if ours else []


@contextmanager
def _saved(model: Any, tokenizer: Any | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        yield Path(folder)
