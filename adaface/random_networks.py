"""Networks with random weights at the sizes of Stable Diffusion 1.5, or any other: to see what a machine can do, without
a download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

TOKENIZER = "package://adaface.miniature/weights/clip"  # a small one; which words it knows changes nothing

_TEXT = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 77,
}  # fmt: skip
_UNET = {"cross_attention_dim": 768, "sample_size": 64}
_VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip


@dataclass(frozen=True)
class NetworkSizes:
    """Sizes of all models, as their libraries call them. The defaults are Stable Diffusion 1.5 and Arc2Face."""

    text: Mapping[str, int] = field(default_factory=lambda: dict(_TEXT))
    unet: Mapping[str, Any] = field(default_factory=lambda: dict(_UNET))
    vae: Mapping[str, Any] = field(default_factory=lambda: dict(_VAE))
    id_dim: int = 512
    multiplier: int = 4  # keys and values of the inverse encoder per token, as in the original's extended checkpoints


def random_unet(sizes: NetworkSizes, dtype: torch.dtype, device: torch.device | str = "cpu") -> UNet2DConditionModel:
    """In evaluation mode. It is made in its dtype and filled once: in float32 it would take twice as much, for a moment."""
    with torch.device("meta"), default_dtype(dtype):
        unet = UNet2DConditionModel(**sizes.unet)
    unet = unet.to_empty(device=device).eval()
    fill(unet)
    return unet


def random_text_model(sizes: NetworkSizes, tokenizer: Any) -> CLIPTextModel:
    """Of the default dtype, in evaluation mode, with the tokenizer's start and end."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return CLIPTextModel(CLIPTextConfig(**sizes.text, **ends)).eval()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What is built inside has this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Weights of about the size that networks start with, in a moment: one block of random numbers, again and again."""
    block = torch.randn(1 << 20).to(torch.bfloat16)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(float(name.endswith("weight")))  # norms, and biases
            continue
        for part in parameter.view(-1).split(len(block)):
            part.copy_(block[: len(part)])
        parameter.mul_(parameter[0].numel() ** -0.5)
