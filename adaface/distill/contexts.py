"""Cross-attention whose text differs from layer to layer, and between keys and values.

The contexts go through the UNet as its `encoder_hidden_states`, with more dimensions than usual, so that gradient
checkpointing and guidance treat them like any others:
- (B, T, D): one for all layers, as always; the processors that were set do the work.
- (B, L, T, D): one for each of the L cross-attention layers.
- (B, L, 2, T, D): per layer one for the values, then one for the keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from adaface.distill.features import cross_attentions


@contextmanager
def layer_contexts(unet: UNet2DConditionModel) -> Iterator[None]:
    """Inside of the `with` the UNet takes the contexts above; afterwards its processors are those it had.

    With gradient checkpointing the backward pass belongs inside, too: it runs the layers again.
    """
    attentions = [unet.get_submodule(place.name).transformer_blocks[0].attn2 for place in cross_attentions(unet)]
    before = [attention.processor for attention in attentions]
    try:
        for number, attention in enumerate(attentions):
            attention.set_processor(_LayerContext(number, len(attentions), attention.processor))
        yield
    finally:
        for attention, processor in zip(attentions, before, strict=True):
            attention.set_processor(processor)


class _LayerContext:
    """Attention processor of one layer: takes its own part of the contexts."""

    def __init__(self, number: int, count: int, plain: Any) -> None:
        self.number, self.count, self.plain = number, count, plain

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        contexts = encoder_hidden_states
        if contexts.ndim > 3 and contexts.shape[1] != self.count:
            raise ValueError(f"contexts of {contexts.shape[1]} layers for a UNet with {self.count}")
        if contexts.ndim < 5:
            context = contexts if contexts.ndim == 3 else contexts[:, self.number]
            return self.plain(
                attn, hidden_states, encoder_hidden_states=context, attention_mask=attention_mask, temb=temb
            )
        if attention_mask is not None:
            raise ValueError("contexts with keys of their own come without a mask of their tokens")
        value_context, key_context = contexts[:, self.number].unbind(1)
        query, key, value = (
            projected.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for projected in (attn.to_q(hidden_states), attn.to_k(key_context), attn.to_v(value_context))
        )
        if isinstance(self.plain, AttnProcessor):  # written out, where the UNet's other attention is, too
            probabilities = torch.softmax(query @ key.transpose(2, 3) * attn.scale, dim=-1)
            attended = probabilities.to(value.dtype) @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        merged = attended.transpose(1, 2).flatten(2).to(query.dtype)
        return attn.to_out[1](attn.to_out[0](merged))
