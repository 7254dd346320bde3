"""Elastic matching: in a composition the person is the one of the plain portrait, and the rest is the teacher's.

Positions of a composition and of the portrait are matched by the queries of cross-attention: a soft assignment that may
move and stretch. Rows of all inputs are four blocks of G images each: subject alone (ss), subject in the composition
(sc), teacher alone (ms), teacher in the composition (mc).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adaface.distill.losses.maps import pooled, positions, resized, resized_mask
from adaface.distill.losses.operators import cosine_loss, in_float32
from adaface.encoder.gradient_scale import scale_gradient

CUTOFF = 0.25  # a position that is matched to the face by less belongs to the background
_NORM_EPS = 1e-5
_TINY = 1e-6
_COARSE = 8  # maps that are wider are averaged over windows of 4 that step by 2


class Match(NamedTuple):
    """Of one layer: three losses (G,), and (G, N) how surely a position of a composition is background."""

    map_alignment: Tensor
    foreground_match: Tensor
    background_match: Tensor
    subject_background: Tensor
    teacher_background: Tensor


def assignment(composition: Tensor, alone: Tensor) -> Tensor:
    """P (G, N, N): for every position of the picture alone (last dimension) a distribution over the composition's.

    P = softmax over composition positions of Q_compositionᵀ gs_0.1(Q_alone), without temperature.

    Args:
        composition, alone: queries (G, N, C).
    """
    return torch.softmax(composition @ scale_gradient(alone, 0.1).transpose(1, 2), dim=1)


@in_float32
def match(queries: Tensor, features: Tensor, foreground: Tensor) -> Match:
    """How a composition's positions match the portrait's. U: calc_elastic_matching_loss.

    With P_s from sc to ss, P_m from mc to ms, and J the face's positions in ss:
    - map_alignment = mean over (i, j) in J x J of |P_s - P_m|
    - foreground_match = cosL(P_sᵀ F_sc, F_ss) at J, exponent 2, gs_0.01 on F_ss
    - background_match = cosL(F_sc, F_mc), exponent 2, gs_0.05 on F_mc, positions weighted by b_m
    - b_s = max(0, 0.25 - sum over J of P_s), b_m likewise of P_m

    Args:
        queries: (4G, N, C).
        features: (4G, N, C').
        foreground: (G, N) bool. An image without any has losses 0 and no background.
    """
    ss, sc, ms, mc = queries.chunk(4)
    subject, teacher = assignment(sc, ss), assignment(mc, ms)
    alone, composed, _, teacher_composed = features.chunk(4)
    face = foreground.to(features.dtype)
    pairs = face.unsqueeze(2) * face.unsqueeze(1)
    moved = ((subject - teacher).abs() * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=_TINY)
    recovered = subject.transpose(1, 2) @ composed
    found = cosine_loss(recovered, scale_gradient(alone, 0.01), reference_gradient=1, weights=face)
    any_face = foreground.any(1).to(face.dtype)
    subject_background, teacher_background = (
        (CUTOFF - (p @ face.unsqueeze(2)).squeeze(2)).clamp(min=0) * any_face.unsqueeze(1) for p in (subject, teacher)
    )
    kept = cosine_loss(composed, teacher_composed, reference_gradient=0.05, weights=teacher_background)
    return Match(moved, found, kept, subject_background, teacher_background)


def _normal_over_four(queries: Tensor) -> Tensor:
    """(4G, C, h, w): every channel has mean 0 and variance 1 over an image's four rows and all positions.

    The original's batch norm in training mode; it has one image in a batch, so that this is per image.
    """
    four = queries.unflatten(0, (4, -1))
    variance, mean = torch.var_mean(four, dim=(0, 3, 4), keepdim=True, correction=0)
    return ((four - mean) * (variance + _NORM_EPS).rsqrt()).flatten(0, 1)


def channel_norm(features: Tensor) -> Tensor:
    """(B, C, h, w): layer norm over the channels, no weights."""
    return F.layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)


@in_float32
def elastic_matching(
    queries: Mapping[str, Tensor],
    features: Mapping[str, Tensor],
    subject_scores: Mapping[str, Tensor],
    foreground: Tensor,
    layer_weights: Mapping[str, float],
    *,
    normalise: bool = True,
) -> dict[str, Tensor]:
    """Five terms, each (G,), summed over layers with their weights. D: calc_comp_fg_bg_preserve_loss.

    map_alignment, foreground_match and background_match are those of `match` on normalised queries and features,
    averaged over windows where maps are wider than 8. subject_suppression and teacher_suppression are means of
    max(0, a) weighted by b_s and b_m: no attention to the subject where its composition, or the teacher's (gs_0.02
    on a), is background.

    Args:
        queries: layer -> (4G, C, h, w).
        features: layer -> (4G, C', h', w'), resized to the queries' map.
        subject_scores: layer -> a, (4G, heads, h, w), attention logits summed over the subject's tokens; the subject's
            slots in the teacher's rows.
        foreground: (G, 1, H, W) the face in the picture alone, in 0..1; all zeros: no losses for that image.
        layer_weights: of all layers, those that are not in `queries` included.
        normalise: queries over the four rows, features over their channels.
    """
    names = ("map_alignment", "foreground_match", "background_match", "subject_suppression", "teacher_suppression")
    terms = {name: foreground.new_zeros(len(foreground)) for name in names}
    for layer, query in queries.items():
        size = (query.shape[2], query.shape[3])
        feature = resized(features[layer], size)
        scores, face = resized(subject_scores[layer], size), resized_mask(foreground, size)
        if normalise:
            query, feature = _normal_over_four(query), channel_norm(feature)
        if size[1] > _COARSE:
            query, feature, scores, face = (pooled(x, 4) for x in (query, feature, scores, face))
        found = match(positions(query), positions(feature), face.flatten(1) > 0)
        _, subject, _, teacher = scores.flatten(2).chunk(4)
        values = (
            *found[:3],
            _suppressed(subject, found.subject_background),
            _suppressed(scale_gradient(teacher, 0.02), found.teacher_background),
        )
        for name, value in zip(names, values, strict=True):
            terms[name] = terms[name] + layer_weights[layer] * value
    return terms


def _suppressed(scores: Tensor, background: Tensor) -> Tensor:
    """(G,): mean of max(0, scores (G, heads, N)) under the weights (G, N)."""
    weights = background.unsqueeze(1).expand(scores.shape)
    return (scores.clamp(min=0) * weights).sum((1, 2)) / weights.sum((1, 2)).clamp(min=_TINY)
