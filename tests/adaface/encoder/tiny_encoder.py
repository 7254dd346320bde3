"""A small random encoder: D = 32, a vocabulary of 64, the prompts' shape of the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.encoder.config import EncoderConfig
from adaface.encoder.model import AdaFaceEncoder

WIDTH, ID_DIM, LAYERS = 32, 20, 4
TEXT = {
    "vocab_size": 64,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
}
START, END, COMMA, ID = 62, 63, 7, 9
BACKGROUND = {"image_dim": 24, "image_tokens": 17, "heads": 4, "layers": 16, "vectors": 4}


def config(**changes: Any) -> EncoderConfig:
    return EncoderConfig(
        **{
            "id_dim": ID_DIM,
            "text": TEXT,
            "multipliers": (1,) * LAYERS,
            "teacher_tokens": (START, 1, 2, 3, ID, 4, END),
            "inverse_tokens": (START, 1, 2, 3, *[COMMA] * 16, END),
            "id_token": ID,
            "pad_token": END,
            **changes,
        }
    )


def text_model(seed: int = 0, **changes: Any) -> CLIPTextModel:
    """Random weights large enough that tokens and places matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text = CLIPTextModel(CLIPTextConfig(**{**TEXT, "bos_token_id": START, "eos_token_id": END, **changes}))
        for name, parameter in text.named_parameters():
            if "embedding" in name:
                torch.nn.init.normal_(parameter, std=0.5)
            elif parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.15)
            else:
                torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.1)
    return text.eval()


def encoder(multipliers: Sequence[int] = (1,) * LAYERS, **changes: Any) -> AdaFaceEncoder:
    """Copies of keys and values differ; `changes` are gradient scales or parts of the configuration."""
    gradients = {name: changes.pop(name) for name in ("output_gradient", "layer_weights_gradient") if name in changes}
    made = AdaFaceEncoder.from_text_model(config(**changes), text_model(1), text_model(2), **gradients)
    generator = torch.Generator().manual_seed(3)
    for layer, multiplier in enumerate(multipliers):
        made.extend(multiplier, layers=[layer], noise=0.5, generator=generator)
    return made.eval()


def faces(count: int = 2, seed: int = 5) -> Tensor:
    return F.normalize(torch.randn(count, ID_DIM, generator=torch.Generator().manual_seed(seed)), dim=-1)
