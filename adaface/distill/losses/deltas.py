"""What a composition changes should be the same for the subject as for its class: features, attention, predicted noise.

Rows of all inputs are four blocks of G images each: subject alone (ss), subject in the composition (sc), teacher alone
(ms), teacher in the composition (mc). D: calc_prompt_mix_loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adaface.distill.losses.elastic_matching import channel_norm
from adaface.distill.losses.maps import away_from, pooled
from adaface.distill.losses.operators import delta_alignment, in_float32, orthogonal, orthogonal_l2
from adaface.encoder.gradient_scale import scale_gradient


@in_float32
def feature_delta(
    features: Mapping[str, Tensor],
    subject_scores: Mapping[str, Tensor],
    layer_weights: Mapping[str, float],
    *,
    normalise: bool = False,
) -> Tensor:
    """(G,): sum over layers of mean orth( orth(sc, gs_0.1(mc)), orth(ss, gs_0.1(ms)) )^2.

    Each of the four is one vector: the features times `away_from` (the mean of sc's and mc's), averaged over windows
    of 4 (maps up to 16 wide; 8 above; none below 8), flattened.

    Args:
        features: layer -> (4G, C, h, w).
        subject_scores: layer -> (4G, heads, h', w'), attention logits summed over the subject's tokens.
        layer_weights: of all layers, those that are not in `features` included.
        normalise: layer norm over the channels first.
    """
    terms = []
    for layer, feature in features.items():
        size = (feature.shape[2], feature.shape[3])
        _, subject, _, teacher = subject_scores[layer].chunk(4)
        where = (away_from(subject, size) + away_from(teacher, size)) / 2
        if normalise:
            feature = channel_norm(feature)
        weighted = feature * where.repeat(4, 1, 1, 1)
        if size[1] >= 8:
            weighted = pooled(weighted, 4 if size[1] <= 16 else 8)
        ss, sc, ms, mc = weighted.flatten(1).chunk(4)
        ms, mc = scale_gradient(ms, 0.1), scale_gradient(mc, 0.1)
        terms.append(layer_weights[layer] * orthogonal_l2(orthogonal(sc, mc), orthogonal(ss, ms)))
    return torch.stack(terms).sum(0)


@in_float32
def attention_delta(subject_scores: Mapping[str, Tensor], layer_weights: Mapping[str, float]) -> Tensor:
    """(G,): sum over layers of cosL( orth(sc, gs_0.05(mc)), orth(ss, gs_0.05(ms)) ), exponent 3, one row per head.

    Args:
        subject_scores: layer -> (4G, heads, h, w), attention logits summed over the subject's tokens.
        layer_weights: of all layers, those that are not in `subject_scores` included.
    """
    terms = []
    for layer, scores in subject_scores.items():
        ss, sc, ms, mc = scores.flatten(2).chunk(4)
        aligned = delta_alignment(ss, sc, ms, mc, exponent=3, reference_gradient=0.05, base_gradient=1)
        terms.append(layer_weights[layer] * aligned)
    return torch.stack(terms).sum(0)


@in_float32
def attention_norm(subject_scores: Mapping[str, Tensor], layer_weights: Mapping[str, float]) -> Tensor:
    """(G,): sum over layers of mean over heads of |mean sc - gs_0.05(mean mc)| + |mean ss - gs_0.05(mean ms)|.

    The means are over positions: the subject's words draw as much attention as the class's. Arguments as in
    `attention_delta`.
    """
    terms = []
    for layer, scores in subject_scores.items():
        ss, sc, ms, mc = scores.flatten(2).mean(2).chunk(4)
        apart = (sc - scale_gradient(mc, 0.05)).abs() + (ss - scale_gradient(ms, 0.05)).abs()
        terms.append(layer_weights[layer] * apart.mean(1))
    return torch.stack(terms).sum(0)
