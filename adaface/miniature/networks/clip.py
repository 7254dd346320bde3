"""The miniature CLIP: transformers' `CLIPModel` at toy size, and its text half as a model of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

from adaface.miniature.networks.tokenizer import MAX_LENGTH
from adaface.miniature.pictures.portraits import SIZE

WIDTH = 128  # of text and vision states; at least the width of an ID embedding
_LAYERS, _HEADS, _PATCH = 4, 4, 8


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Images (B, 3, 64, 64), tokens (B, 77) -> states (B, 77, 128), joint space of 128."""
    common = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "projection_dim": WIDTH,
        "hidden_act": "quick_gelu",
    }
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **common,
    )
    vision = CLIPVisionConfig(image_size=SIZE, patch_size=_PATCH, **common)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    # attention written out: the fused kernel's backward pass is several times slower on CPUs
    config._attn_implementation = "eager"
    model = CLIPModel(config)
    # the library's 0.02 leaves words of so narrow a model almost alike
    nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.05)
    return model


def text_encoder_of(clip: CLIPModel) -> CLIPTextModel:
    """A copy of the text half, as Stable Diffusion's folders hold it."""
    model = CLIPTextModel(clip.config.text_config)
    wanted, have = model.state_dict(), clip.state_dict()
    prefix = "" if next(iter(wanted)).startswith("text_model.") else "text_model."
    model.load_state_dict({name: have[prefix + name] for name in wanted})
    return model


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """int64 (B, 77), padded with the end token; longer texts are cut, as CLIP's pipelines do."""
    return tokenizer(
        texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def load_clip(weights: Path) -> tuple[CLIPModel, CLIPTokenizer]:
    """The finished CLIP, float32, on the CPU, and its tokenizer. Raises FileNotFoundError where there is none."""
    folder = weights / "clip"
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(f"{folder} has no CLIP; train it first: python -m adaface.miniature.train clip")
    clip = CLIPModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return clip.eval().requires_grad_(False), CLIPTokenizer.from_pretrained(folder)
