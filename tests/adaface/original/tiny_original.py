"""Small checkpoints of the original's layout: pickles of whole modules under the original's class names."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.encoder.multi_kv import give_copies

WIDTH, LAYERS, WORDS, WINDOW = 512, 2, 49408, 77  # the face embedding has 512 values, CLIP's tokenizer 49408 words
BACKGROUND_LAYERS, BACKGROUND_VECTORS = 4, 2


class SubjBasisGenerator(nn.Module):
    """Members and attributes as pickled; no forward."""


class CLIPTextModelWrapper(nn.Module):
    """The original's text model: everything lies one level deeper than in transformers 5."""


class CrossAttention(nn.Module):
    """Of the background generator."""


@contextmanager
def importable(classes: Sequence[type], package: str) -> Iterator[None]:
    """The classes under the module paths of the original while they are pickled."""
    modules = {"SubjBasisGenerator": "subj_basis_generator", "CrossAttention": "subj_basis_generator"}
    made = {}
    for kind in classes:
        name = f"{package}.{modules.get(kind.__name__, 'arc2face_models')}"
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            if path not in sys.modules:
                made[path] = sys.modules[path] = types.ModuleType(path)
        setattr(sys.modules[name], kind.__name__, kind)
        kind.__module__ = name
    try:
        yield
    finally:
        for path in made:
            del sys.modules[path]
        for kind in classes:
            kind.__module__ = __name__


def overlapping(rows: int, columns: int) -> nn.Parameter:
    """(rows, columns) whose storage has few values: a token table of 100 MB takes 0.2 MB in the file."""
    return nn.Parameter(torch.randn(rows + columns).as_strided((rows, columns), (1, 1)))


def subject(
    *, multipliers: Sequence[int] = (1, 1), layer_weights: Tensor | None = None, pads: Tensor | None = None
) -> SubjBasisGenerator:
    """A subject's generator, with the parts that are never used."""
    torch.manual_seed(len(multipliers) + sum(multipliers))
    config = CLIPTextConfig(
        vocab_size=8,  # the table is put in below: drawing 25 million numbers takes a second
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        projection_dim=WIDTH,
        bos_token_id=0,
        eos_token_id=2,
    )
    generator, wrapper = SubjBasisGenerator(), CLIPTextModelWrapper()
    wrapper.text_model = CLIPTextModel(config)
    give_copies(wrapper.text_model, tuple(multipliers))
    wrapper.text_model.embeddings.token_embedding.weight = overlapping(WORDS, WIDTH)
    config.vocab_size = WORDS
    wrapper.config = config
    generator.prompt2token_proj = wrapper
    generator.pos_embs = nn.Parameter(torch.randn(1, 3, WIDTH))
    generator.pos_embs_ln = nn.LayerNorm(WIDTH)
    generator.obj_proj_in = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Identity(), nn.LayerNorm(4))
    generator.hidden_state_layer_weights = None if layer_weights is None else nn.Parameter(layer_weights)
    generator.placeholder_is_bg = False
    generator.pad_embeddings = pads
    return generator


def background() -> SubjBasisGenerator:
    """A background generator for 5 image features of width 7."""
    torch.manual_seed(1)
    generator, translator = SubjBasisGenerator(), CrossAttention()
    for name in ("to_q", "to_k", "to_v"):
        setattr(translator, name, nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.LayerNorm(WIDTH)))
    translator.attn_drop = nn.Dropout(0.05)
    translator.num_heads = 8
    generator.prompt_translator = translator
    generator.pos_embs = nn.Parameter(torch.randn(1, 5, WIDTH))
    generator.pos_embs_ln = nn.LayerNorm(WIDTH)
    generator.latent_queries = nn.Parameter(torch.randn(1, BACKGROUND_LAYERS * BACKGROUND_VECTORS, WIDTH))
    generator.latent_queries_ln = nn.LayerNorm(WIDTH)
    generator.bg_proj_in = nn.Sequential(nn.Linear(7, WIDTH, bias=False), nn.LayerNorm(WIDTH))
    generator.placeholder_is_bg = True
    generator.num_out_layers, generator.num_out_embs_per_layer = BACKGROUND_LAYERS, BACKGROUND_VECTORS
    return generator


def save(path: Path, generators: dict[str, nn.Module], *, package: str = "adaface", **others: Any) -> Path:
    """Writes a checkpoint; a slim one, unless there are `others`."""
    with importable((SubjBasisGenerator, CLIPTextModelWrapper, CrossAttention), package):
        torch.save({**others, "string_to_subj_basis_generator_dict": nn.ModuleDict(generators)}, path)
    return path
