"""Small models of random weights for the miniature's Stable Diffusion, and pictures straight from diffusers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from adaface.encoder.config import EncoderConfig
from adaface.encoder.model import AdaFaceEncoder
from adaface.evaluation.config import GenerationConfig
from adaface.evaluation.methods.base import BasePipe, Request
from adaface.evaluation.prompts import Prompt
from adaface.subjects.guidance import annealed_guidance

BASE = "package://adaface.miniature/weights/sd"
ID_DIM = 64
BEACH, HAT = Prompt("beach", "place", "a photo of a {} on a beach"), Prompt("hat", "wear", "a {} wearing a hat")


def make_text(base: BasePipe, layers: int) -> Any:
    """A text model of the base's width and words."""
    from transformers import CLIPTextConfig, CLIPTextModel

    settings = base.pipe.text_encoder.config.to_dict() | {"num_hidden_layers": layers}
    text = CLIPTextModel(CLIPTextConfig(**settings))
    torch.nn.init.normal_(text.get_input_embeddings().weight, std=0.5)
    return text.eval()


def make_encoder(base: BasePipe, id_dim: int = ID_DIM) -> Any:
    teacher, text = make_text(base, layers=2), make_text(base, layers=2)
    config = EncoderConfig.for_tokenizer(base.pipe.tokenizer, id_dim=id_dim, text=text.config)
    return AdaFaceEncoder.from_text_model(config, teacher, text)


def requests(*seeds: int, prompt: Prompt = BEACH, word: str = "young woman") -> list[Request]:
    return [Request(prompt, word, seed) for seed in seeds]


def drawn_by(pipe: Any, generation: GenerationConfig, seed: int, **prompts: Any) -> np.ndarray:
    """One picture, straight from diffusers."""
    picture = pipe(
        **prompts,
        **annealed_guidance(*generation.guidance),
        num_inference_steps=generation.steps,
        generator=torch.Generator().manual_seed(seed),
    ).images[0]
    return np.asarray(picture)


def make_unet(in_channels: int = 4, cross_attention_dim: int = 128) -> UNet2DConditionModel:
    """Of random weights; by default it fits the base's VAE and tokenizer."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=2,
        norm_num_groups=8,
    )
