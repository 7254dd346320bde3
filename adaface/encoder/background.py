"""The background generator: features of a picture become the tokens of "with background y".

Its own part of the original, trained beside the encoder and not needed to draw a person: learned queries look at the
picture's CLIP features (see image_features.py), and every one of the UNet's 16 cross-attention layers gets 4 vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaface.encoder.config import BACKGROUND_CHOICES, BACKGROUND_SIZES

# Names of the original's parameters (SubjBasisGenerator with placeholder_is_bg) -> names here
FROM_ORIGINAL = {
    "pos_embs": "positions",
    "pos_embs_ln": "position_norm",
    "bg_proj_in.0": "image_proj",
    "bg_proj_in.1": "image_norm",
    "latent_queries": "queries",
    "latent_queries_ln": "query_norm",
    "prompt_translator.to_q.0": "q_proj",
    "prompt_translator.to_q.1": "q_norm",
    "prompt_translator.to_k.0": "k_proj",
    "prompt_translator.to_k.1": "k_norm",
    "prompt_translator.to_v.0": "v_proj",
    "prompt_translator.to_v.1": "v_norm",
}


class BackgroundGenerator(nn.Module):
    """CLIP features (B, 257, image_dim) -> background tokens (B, 16 UNet layers, 4, D).

    Args:
        width: D.
        sizes: `EncoderConfig.background`; what is left out has the original's value.
    """

    def __init__(self, width: int, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        sizes = {**BACKGROUND_SIZES, **BACKGROUND_CHOICES, **sizes}
        self.layers, self.vectors, self.heads = sizes["layers"], sizes["vectors"], sizes["heads"]
        self.dropout = float(sizes["dropout"])
        self.positions = nn.Parameter(torch.randn(1, sizes["image_tokens"], width))
        self.position_norm = nn.LayerNorm(width)
        self.image_proj = nn.Linear(sizes["image_dim"], width, bias=False)
        self.image_norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(1, self.layers * self.vectors, width))
        self.query_norm = nn.LayerNorm(width)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_norm, self.k_norm, self.v_norm = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        """Args: the background half of `image_features`, (B, image_tokens, image_dim).

        Returns (B, layers, vectors, D), scaled by D**-0.5: layer l has queries vectors·l .. vectors·(l+1)-1.
        Attention drops `dropout` of its probabilities in training.
        """
        width = self.positions.shape[-1]
        if features.shape[1:] != (self.positions.shape[1], self.image_proj.in_features):
            raise ValueError(
                f"image features must be (B, {self.positions.shape[1]}, {self.image_proj.in_features}), "
                f"not {tuple(features.shape)}"
            )
        context = self.image_norm(self.image_proj(features)) + self.position_norm(self.positions)
        queries = self.q_norm(self.q_proj(self.query_norm(self.queries))).expand(len(features), -1, -1)
        keys = self.k_norm(self.k_proj(context))
        values = self.v_norm(self.v_proj(context)) + context
        queries, keys, values = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (queries, keys, values))
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        out = out.transpose(1, 2).flatten(2) * width**-0.5
        return out.unflatten(1, (self.layers, self.vectors))


def from_original(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the original's background generator under the names of `BackgroundGenerator`.

    Raises ValueError with all names that are not part of it.
    """
    out: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        if name in FROM_ORIGINAL:
            out[FROM_ORIGINAL[name]] = tensor
        elif module in FROM_ORIGINAL and leaf in ("weight", "bias"):
            out[f"{FROM_ORIGINAL[module]}.{leaf}"] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise ValueError("not part of a background generator: " + ", ".join(sorted(unknown)))
    return out
