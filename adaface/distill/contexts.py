"""Cross-attention whose text differs from layer to layer, and between keys and values.

The contexts go through the UNet as its `encoder_hidden_states`, with more dimensions than usual:
- (B, T, D): one for all layers, as always; the processors that were set do the work.
- (B, L, T, D): one for each of the L cross-attention layers.
- (B, L, 2, T, D): per layer one for the values, then one for the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from adaface.distill.features import cross_attentions

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def install_layer_contexts(unet: UNet2DConditionModel) -> Callable[[], None]:
    """From here on the UNet takes the contexts above; what is returned takes it back to what it was.

    With gradient checkpointing this is the way: the backward pass runs the layers again, after any `with`.

    Raises:
        ValueError: in the forward pass, for contexts of another number of layers.
    """
    attentions = [unet.get_submodule(place.name).transformer_blocks[0].attn2 for place in cross_attentions(unet)]
    if any(isinstance(attention.processor, _LayerContext) for attention in attentions):
        return lambda: None
    before = [attention.processor for attention in attentions]

    def apart(_unet: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
        # one tuple instead of a slice in every layer, whose gradients would be as large as all contexts together
        if len(inputs) > 2:
            inputs = (*inputs[:2], _of_layers(inputs[2], len(attentions)), *inputs[3:])
        else:
            options = {
                **options,
                "encoder_hidden_states": _of_layers(options["encoder_hidden_states"], len(attentions)),
            }
        return inputs, options

    hook = unet.register_forward_pre_hook(apart, with_kwargs=True)
    for number, attention in enumerate(attentions):
        attention.set_processor(_LayerContext(number, attention.processor))

    def restore() -> None:
        hook.remove()
        for attention, processor in zip(attentions, before, strict=True):
            attention.set_processor(processor)

    return restore


@contextmanager
def layer_contexts(unet: UNet2DConditionModel) -> Iterator[None]:
    """`install_layer_contexts` inside of the `with`; where they are installed already, they stay."""
    restore = install_layer_contexts(unet)
    try:
        yield
    finally:
        restore()


def checkpoint_gradients(unet: UNet2DConditionModel) -> None:
    """Less memory and more time, for good: the backward pass runs the layers again, with the contexts they had."""
    install_layer_contexts(unet)
    unet.enable_gradient_checkpointing()


def _of_layers(contexts: Tensor, count: int) -> Tensor | tuple[Tensor, ...]:
    if contexts.ndim == 3:
        return contexts
    if contexts.shape[1] != count:
        raise ValueError(f"contexts of {contexts.shape[1]} layers for a UNet with {count}")
    return contexts.unbind(1)


class _LayerContext:
    """Attention processor of one layer: takes its own part of the contexts."""

    def __init__(self, number: int, plain: Any) -> None:
        self.number, self.plain = number, plain

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | tuple[Tensor, ...],
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        context = (
            encoder_hidden_states if isinstance(encoder_hidden_states, Tensor) else encoder_hidden_states[self.number]
        )
        if context.ndim == 3:
            return self.plain(
                attn, hidden_states, encoder_hidden_states=context, attention_mask=attention_mask, temb=temb
            )
        if attention_mask is not None:
            raise ValueError("contexts with keys of their own come without a mask of their tokens")
        value_context, key_context = context.unbind(1)
        query, key, value = attn.to_q(hidden_states), attn.to_k(key_context), attn.to_v(value_context)
        if isinstance(self.plain, AttnProcessor):  # written out as there, for the same bits where keys are values
            query, key, value = (attn.head_to_batch_dim(projected) for projected in (query, key, value))
            merged = attn.batch_to_head_dim(torch.bmm(attn.get_attention_scores(query, key), value))
        else:
            query, key, value = (
                projected.unflatten(2, (attn.heads, -1)).transpose(1, 2) for projected in (query, key, value)
            )
            attended = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
            merged = attended.transpose(1, 2).flatten(2).to(query.dtype)
        return attn.to_out[1](attn.to_out[0](merged))
