"""Golden files of the original's functions: their tensors, and models of this project with their weights.

See ../shared/golden/README.md for how they were made and how their tensors are named.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.encoder.background import from_original
from adaface.encoder.config import TEXT_SIZES, EncoderConfig
from adaface.encoder.files import Stored
from adaface.encoder.model import AdaFaceEncoder
from adaface.encoder.multi_kv import multipliers_in

INVERSE = "prompt2token_proj."
COMMA, START, END, ID = 267, 49406, 49407, 1014
TEACHER_TOKENS = (START, 1125, 539, 320, ID, 2533, END)
INVERSE_TOKENS = (START, 1125, 539, 320, *[COMMA] * 16, END)


# Largest allowed differences. FEATURES are differences of hidden states up to 20, where a float32 step is 2e-6.
VALUES, FEATURES, GRADIENTS, HALF, EXACT = 1e-5, 2e-5, 1e-4, 2e-2, 0.0


@dataclass(frozen=True)
class Check:
    """One comparison: `found` of this project, `expected` of the original, both float."""

    name: str
    found: Tensor
    expected: Tensor
    tolerance: float = VALUES

    @property
    def error(self) -> float:
        """Largest absolute difference; infinite when the shapes differ."""
        if self.found.shape != self.expected.shape:
            return float("inf")
        return (self.found.double() - self.expected.double()).abs().max().item()


@dataclass(frozen=True)
class Golden:
    """One file: `golden["out/x"]` is a tensor, `golden.entry` its manifest entry."""

    folder: Path
    file: str

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.folder / self.file)

    @cached_property
    def entry(self) -> dict[str, Any]:
        manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        return next(entry for entry in manifest["cases"] if entry["file"] == self.file)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names start with this, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters: those stored whole, and those stored as a short row that their rows overlap in."""
        out = self.below(f"{prefix}full/")
        for name, base in self.below(f"{prefix}strided/").items():
            stored = self.entry["strided_weights"][f"{prefix}strided/{name}"]
            shape, stride = stored["shape"], stored["row_stride"]
            out[name] = base.as_strided(shape[-2:], (stride, 1)).clone().view(shape)
        return out

    def text_model(self, prefix: str = "") -> CLIPTextModel:
        weights = {name.removeprefix("text_model."): tensor for name, tensor in self.weights(prefix).items()}
        with torch.device("meta"):
            text = CLIPTextModel(CLIPTextConfig(**self.entry["config"], attn_implementation="sdpa"))
        text.to_empty(device="cpu")
        text.embeddings.position_ids.copy_(torch.arange(text.config.max_position_embeddings))
        text.load_state_dict(weights)
        return text.eval()

    def encoder(
        self, weights: dict[str, Tensor], teacher: CLIPTextModel | None = None, **options: Any
    ) -> AdaFaceEncoder:
        """An encoder with the original's parameters of a subject; the dead ones are left out.

        Args:
            weights: named as in the original's state dict.
            teacher: by default a small random one.
            options: `pad_table`, `background` (the original's parameters), gradient scales.
        """
        inverse = {
            "inverse." + name.removeprefix(f"{INVERSE}text_model."): tensor
            for name, tensor in weights.items()
            if name.startswith(INVERSE)
        }
        stored = {**inverse, "layer_weights": weights["hidden_state_layer_weights"]}
        if (table := options.pop("pad_table", None)) is not None:
            stored["pad_table"] = table
        background = options.pop("background", None)
        if background is not None:
            stored |= {f"background.{name}": tensor for name, tensor in from_original(background).items()}
        config = EncoderConfig(
            id_dim=512,
            text={name: self.entry["config"][name] for name in TEXT_SIZES},
            multipliers=multipliers_in(inverse, "inverse."),
            teacher_tokens=TEACHER_TOKENS,
            inverse_tokens=INVERSE_TOKENS,
            id_token=ID,
            pad_token=END,
            background={"image_dim": background["bg_proj_in.0.weight"].shape[1]} if background else None,
        )
        if teacher is None:
            sizes = {**config.text, "vocab_size": 49408, "num_hidden_layers": 1, "intermediate_size": 8}
            with torch.device("meta"):
                teacher = CLIPTextModel(CLIPTextConfig(**sizes))
        return Stored(config, stored, teacher, None).build(AdaFaceEncoder, **options).eval()


def arbitrary(shape: tuple[int, ...]) -> Tensor:
    """The weights of objectives that are not stored: element k is ((7919·k) mod 1000)/500 - 1."""
    count = torch.arange(torch.Size(shape).numel())
    return ((count * 7919 % 1000).double() / 500 - 1).float().view(shape)
