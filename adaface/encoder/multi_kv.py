"""Self-attention in which every token has several keys and values (the original's CLIPAttentionMKV).

The key and value projections have m·D rows instead of D; rows c·D..(c+1)·D-1 are copy c. Token t's copy c is key
number t·m + c, one softmax runs over all T·m keys, and a mask counts for all copies of a token. With equal copies the
result is that of ordinary attention; trained copies let one token say several things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel
from transformers.models.clip.modeling_clip import CLIPAttention

from adaface.encoder.noise import add_noise


class MultiKVAttention(CLIPAttention):
    """CLIP's self-attention with `multiplier` keys and values per token; SDPA, no attention probabilities.

    Parameter names are those of `CLIPAttention`; only k_proj and v_proj differ in size.
    """

    def __init__(self, config: Any, multiplier: int = 1) -> None:
        super().__init__(config)
        if multiplier < 1:
            raise ValueError(f"attention needs 1 or more keys per token, not {multiplier}")
        if multiplier > 1:
            self.k_proj = nn.Linear(self.embed_dim, multiplier * self.embed_dim)
            self.v_proj = nn.Linear(self.embed_dim, multiplier * self.embed_dim)

    @property
    def multiplier(self) -> int:
        """Keys per token, as the weights have it."""
        return len(self.k_proj.weight) // self.embed_dim

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        is_causal: bool = False,
        **_unused: Any,
    ) -> tuple[Tensor, None]:
        """Args: (B, T, D); a mask that broadcasts to (B, heads, T, T), added to the logits or bool (True: may look).

        Without a mask, `is_causal` lets every token look at itself and at what stands before it.
        Returns (B, T, D) and None in the place of attention probabilities.
        """
        batch, length, width = hidden_states.shape
        copies = self.multiplier
        heads = (self.num_heads, self.head_dim)
        queries = self.q_proj(hidden_states).view(batch, length, *heads).transpose(1, 2)
        keys = self.k_proj(hidden_states).view(batch, length * copies, *heads).transpose(1, 2)
        values = self.v_proj(hidden_states).view(batch, length * copies, *heads).transpose(1, 2)
        if attention_mask is None and is_causal and copies > 1:
            attention_mask = torch.ones(length, length, dtype=torch.bool, device=queries.device).tril()
        if attention_mask is not None and copies > 1:
            attention_mask = attention_mask.repeat_interleave(copies, dim=-1)
        out = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=attention_mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal and attention_mask is None,
            scale=self.scale,
        )
        return self.out_proj(out.transpose(1, 2).reshape(batch, length, width)), None


def give_copies(text: CLIPTextModel, multipliers: Sequence[int]) -> None:
    """Makes every layer's self-attention a `MultiKVAttention` of that size, in place.

    The model computes what it computed before when each layer's multiplier is 1 or its copies are equal: the copies of
    a larger layer are those of the ordinary attention, repeated.

    Raises:
        ValueError: when there is not one multiplier per layer, or a layer has copies already.
    """
    layers = text.encoder.layers
    if len(multipliers) != len(layers):
        raise ValueError(f"{len(multipliers)} multipliers for {len(layers)} layers")
    for number, (layer, multiplier) in enumerate(zip(layers, multipliers, strict=True)):
        plain = layer.self_attn
        if isinstance(plain, MultiKVAttention):
            raise ValueError(f"layer {number} is a multi-key attention already; extend it")
        weight = plain.q_proj.weight
        attention = MultiKVAttention(plain.config, multiplier).to(weight.device, weight.dtype).train(plain.training)
        with torch.no_grad():
            for name, parameter in attention.named_parameters():
                own = plain.get_parameter(name)
                parameter.copy_(own.repeat(len(parameter) // len(own), *[1] * (own.ndim - 1)))
                parameter.requires_grad_(own.requires_grad)
        layer.self_attn = attention


@torch.no_grad()
def extend(
    attention: MultiKVAttention, multiplier: int, *, noise: float = 0.1, generator: torch.Generator | None = None
) -> None:
    """Multiplies the keys and values of one layer, in place: m copies become m·multiplier.

    The old copies stay, bit by bit; the new ones repeat them with noise on their weights (values first, then keys;
    never on biases), whose standard deviation is `noise` times the mean standard deviation of the new rows. Weights are
    new parameters afterwards: make the optimizer after this.

    Unlike the original, an already extended layer gets fresh noise on its new copies as well. There, the size is
    measured after it was overwritten, so the second extension makes exact duplicates that receive the same gradients
    and never part. `noise=0` gives the original's second extension.

    Raises:
        ValueError: for a multiplier under 1 or negative noise.
    """
    if multiplier < 1:
        raise ValueError(f"keys and values are multiplied by 1 or more, not by {multiplier}")
    if multiplier == 1:
        return
    for projection in (attention.v_proj, attention.k_proj):
        old = len(projection.weight)
        weight = projection.weight.detach().repeat(multiplier, 1)
        weight[old:] = add_noise(weight[old:], noise, generator=generator)
        bias = projection.bias.detach().repeat(multiplier)
        projection.weight = nn.Parameter(weight, requires_grad=projection.weight.requires_grad)
        projection.bias = nn.Parameter(bias, requires_grad=projection.bias.requires_grad)
        projection.out_features = len(weight)


def multipliers_of(text: CLIPTextModel) -> tuple[int, ...]:
    """Keys per token of every layer; 1 for ordinary attention."""
    return tuple(len(layer.self_attn.k_proj.weight) // text.config.hidden_size for layer in text.encoder.layers)


def multipliers_in(weights: Mapping[str, Tensor], prefix: str = "") -> tuple[int, ...]:
    """Keys per token of every layer of a text model's state dict, from the sizes of its projections.

    Args:
        weights: tensors under transformers' names, `PREFIXencoder.layers.0.self_attn.k_proj.weight` and so on.

    Raises:
        ValueError: when there is no layer, or sizes that no number of copies gives, with all of them.
    """
    multipliers: list[int] = []
    problems: list[str] = []
    while (name := f"{prefix}encoder.layers.{len(multipliers)}.self_attn.k_proj.weight") in weights:
        keys = weights[name]
        values = weights.get(name.replace("k_proj", "v_proj"), keys)
        if keys.ndim != 2 or len(keys) % keys.shape[1] or not len(keys) or keys.shape != values.shape:
            problems.append(f"{name} is {tuple(keys.shape)}, v_proj {tuple(values.shape)}")
        multipliers.append(len(keys) // keys.shape[1] if keys.ndim == 2 else 0)
    if not multipliers:
        raise ValueError(f"there is no tensor {prefix}encoder.layers.0.self_attn.k_proj.weight")
    if problems:
        raise ValueError("key and value projections must be (m·D, D): " + "; ".join(problems))
    return tuple(multipliers)
