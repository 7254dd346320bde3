"""CLIP text models whose token embeddings are partly ours, and whose last layers are mixed.

Both are done from the outside, by a hook on the token embedding and by the states that the model hands out; position
embeddings, the causal mask and all layers are transformers' own. Like Stable Diffusion 1.5, nothing masks the padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import CLIPTextModel


def embed_with(
    text: CLIPTextModel,
    tokens: Tensor,
    put: Tensor | None,
    at: int,
    *,
    layer_weights: Tensor | None = None,
) -> Tensor:
    """Text states of prompts in which one run of tokens has embeddings of its own.

    Args:
        text: a text model of width D with L layers.
        tokens: int64 (B, T) or (1, T), which is repeated when `put` has more rows.
        put: (B, K, D) or (1, K, D) token embeddings for the places at..at+K-1, without position embeddings; cast to
            the model's dtype. None keeps the prompt as it is.
        at: place of the first of them.
        layer_weights: see `mix_layers`; None gives the last hidden state, as transformers does.

    Returns:
        (B, T, D) in the model's dtype, after the final norm.

    Raises:
        ValueError: when shapes do not fit.

    Not for two threads that share a model: the embeddings are put in by a hook on it.
    """
    if put is None:
        return embed_with_runs(text, tokens, None, None, layer_weights=layer_weights)
    if put.ndim != 3 or put.shape[-1] != text.config.hidden_size:
        raise ValueError(f"token embeddings must be (B, K, {text.config.hidden_size}), not {tuple(put.shape)}")
    if at < 0 or at + put.shape[1] > tokens.shape[1]:
        raise ValueError(f"{put.shape[1]} vectors from place {at} on do not fit into {tokens.shape[1]} tokens")
    rows = _rows(len(tokens), len(put))

    def replaced(embeddings: Tensor) -> Tensor:
        middle = put.to(embeddings).expand(rows, -1, -1)
        return torch.cat([embeddings[:, :at], middle, embeddings[:, at + put.shape[1] :]], dim=1)

    with _embeddings(text, replaced):
        return _states(text, tokens.expand(rows, -1), layer_weights)


def embed_with_runs(
    text: CLIPTextModel,
    tokens: Tensor,
    embeddings: Tensor | None,
    mask: Tensor | None,
    *,
    layer_weights: Tensor | None = None,
) -> Tensor:
    """`embed_with` for any places: several people in one prompt, one at several places, other places in every row.

    Args:
        embeddings: (B, T, D) token embeddings, read where the mask is True only; None keeps the prompts as they are.
        mask: bool (B, T), True where they replace the model's own.

    Returns:
        (B, T, D) in the model's dtype, after the final norm.

    Raises:
        ValueError: when shapes do not fit.
    """
    if embeddings is None or mask is None:
        if embeddings is not None or mask is not None:
            raise ValueError("embeddings and their mask go together; one of them is None")
        return _states(text, tokens, layer_weights)
    width = text.config.hidden_size
    if embeddings.shape != (*mask.shape, width) or mask.shape[1] != tokens.shape[1] or mask.dtype != torch.bool:
        raise ValueError(
            f"for tokens {tuple(tokens.shape)}, embeddings must be (B, T, {width}) and the mask bool (B, T), not "
            f"{tuple(embeddings.shape)} and {mask.dtype} {tuple(mask.shape)}"
        )
    rows = _rows(len(tokens), len(embeddings))

    def replaced(own: Tensor) -> Tensor:
        return torch.where(mask.to(own.device)[..., None], embeddings.to(own), own)

    with _embeddings(text, replaced):
        return _states(text, tokens.expand(rows, -1), layer_weights)


def mix_layers(hidden_states: tuple[Tensor, ...], layer_weights: Tensor) -> Tensor:
    """Weighted mean of the last hidden states, before the final norm.

    Args:
        hidden_states: (B, T, D) each: the embeddings and the output of every layer, none of them normed.
        layer_weights: (n,), (n, 1) or (n, D) relative weights of the last n of them, the last for the last layer. They
            are divided by their sum.

    Returns:
        (B, T, D) in the dtype of the states.

    Raises:
        ValueError: when n is 0 or more than there are, or D differs.
    """
    weights = layer_weights[:, None] if layer_weights.ndim == 1 else layer_weights
    width = hidden_states[-1].shape[-1]
    if weights.ndim != 2 or weights.shape[1] not in (1, width) or not 1 <= len(weights) <= len(hidden_states):
        raise ValueError(
            f"layer weights must be (n,), (n, 1) or (n, {width}) with n in 1..{len(hidden_states)}, "
            f"not {tuple(layer_weights.shape)}"
        )
    shares = (weights / weights.sum(dim=0, keepdim=True)).to(hidden_states[-1])
    last = torch.stack(hidden_states[-len(weights) :])
    return (last * shares[:, None, None]).sum(dim=0)


def _states(text: CLIPTextModel, tokens: Tensor, layer_weights: Tensor | None) -> Tensor:
    if layer_weights is None:
        return text(tokens).last_hidden_state
    # CLIP's text model of transformers 5 leaves the last of them without the final norm; a test holds it to that
    hidden_states = text(tokens, output_hidden_states=True).hidden_states
    return text.final_layer_norm(mix_layers(hidden_states, layer_weights))


def _rows(tokens: int, embeddings: int) -> int:
    if tokens != embeddings and 1 not in (tokens, embeddings):
        raise ValueError(f"{tokens} prompts do not go with embeddings for {embeddings}")
    return max(tokens, embeddings)


@contextmanager
def _embeddings(text: CLIPTextModel, replaced: Callable[[Tensor], Tensor]) -> Iterator[None]:
    def hook(_module: object, _arguments: object, embeddings: Tensor) -> Tensor:
        return replaced(embeddings)

    handle = text.get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
