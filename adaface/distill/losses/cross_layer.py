"""Attention to a word should lie in the same place in neighbouring layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from adaface.distill.losses.maps import resized
from adaface.distill.losses.operators import cosine_loss, in_float32


@in_float32
def cross_layer(scores: Mapping[str, Tensor], order: Sequence[str], layer_weights: Mapping[str, float]) -> Tensor:
    """(B,): sum over layers of cosL(a_layer, a_before), rows' means taken off, exponent 2, gradients to both.

    a is the mean over heads; the larger of two maps is resized to the smaller. D: calc_fg_bg_xlayer_consist_loss.

    Args:
        scores: layer -> (B, heads, h, w), attention logits summed over the tokens of subject or background.
        order: all layers as the network runs through them; a pair counts when both are in `scores`.
        layer_weights: of the later layer of each pair.
    """
    terms = []
    for before, layer in pairwise(order):
        if before in scores and layer in scores:
            earlier, later = scores[before].mean(1, keepdim=True), scores[layer].mean(1, keepdim=True)
            # the larger map is the one that is compared, the later of two equals; the other is the reference
            larger, smaller = sorted((later, earlier), key=lambda a: -a.shape[2] * a.shape[3])
            compared = resized(larger, (smaller.shape[2], smaller.shape[3])).flatten(1)
            loss = cosine_loss(compared, smaller.flatten(1), reference_gradient=1, demean=True)
            terms.append(layer_weights[layer] * loss)
    if not terms:
        raise ValueError(f"no two neighbours of {', '.join(order)} are among {', '.join(scores)}")
    return torch.stack(terms).sum(0)


def cross_layer_terms(
    order: Sequence[str],
    layer_weights: Mapping[str, float],
    subject: Mapping[str, Tensor],
    background: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    """`cross_layer` of the attention to the subject and, where prompts have one, to the background; (B,) each."""
    terms = {"cross_layer_subject": cross_layer(subject, order, layer_weights)}
    if background is not None:
        terms["cross_layer_background"] = cross_layer(background, order, layer_weights)
    return terms
