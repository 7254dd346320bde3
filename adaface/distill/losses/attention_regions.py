"""Attention to the subject's words on the person, attention to the background's words off it.

All terms look at s and b: attention logits summed over the tokens of the subject and of the background, (B, heads,
h, w) per layer, and at the mask of the person. D: calc_fg_bg_complementary_loss.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from adaface.distill.losses.maps import masked_mean, resized_mask
from adaface.distill.losses.operators import cosine_loss, in_float32
from adaface.encoder.gradient_scale import scale_gradient

MARGIN = 0.4  # by which a score on its own side exceeds one on the other
_MASK_FROM = 1e-6


@in_float32
def attention_regions(
    subject: Mapping[str, Tensor],
    background: Mapping[str, Tensor] | None,
    foreground: Tensor,
    layer_weights: Mapping[str, float],
    *,
    token_ratio: float = 4.0,
    instances: Tensor | None = None,
    original: bool = False,
) -> dict[str, Tensor]:
    """Four terms, each (B,), summed over layers with their weights; without `background` only subject_outside.

    F and B are the positions on and off the person, s̄_F (gs_0.5) and b̄_B means of s over F and of b over B:
    - complementary = repelling cosL(b, s), exponent 2, gs_0.1 on s, one row per head
    - subject_outside = mean of the positive s·[p in B] + 0.4 - s̄_F
    - background_inside = mean of the positive b·[p in F] + 0.4 - b̄_B
    - contrast = mean of the positive b·[p in F] + 0.4·token_ratio - s̄_F, and of s·[p in B] + 0.4 - b̄_B

    Means are those of an image over the positions of the side in brackets.

    Args:
        subject, background: layer -> s, b.
        foreground: (B, 1, H, W), the person, in 0..1.
        layer_weights: of all layers, those that are not in `subject` included.
        token_ratio: tokens of the subject per token of the background.
        instances: (B,) weights of the images, but for `complementary`; by default 0 for those without a person.
        original: one mean over the positive values of the whole batch, in every place of the result, and positions of
            the other side take part with a product of 0, so that there the margin alone is pushed against the mean.
    """
    names = ("complementary", "subject_outside", "background_inside", "contrast")
    terms = {name: foreground.new_zeros(len(foreground)) for name in (names if background is not None else names[1:2])}
    if instances is None:
        instances = (foreground.flatten(1).amax(1) > 0).to(foreground.dtype)

    def positive(scores: Tensor, side: Tensor, threshold: Tensor) -> Tensor:
        """(B,): mean of what exceeds the threshold (B, 1, 1, 1) on one side."""
        excess = scores * side - threshold
        if original:
            return masked_mean(excess, excess > 0, instances=instances).expand(len(excess))
        return masked_mean(excess, (excess > 0) * side, dims=(1, 2, 3), instances=instances).flatten()

    for layer, s in subject.items():
        person = (resized_mask(foreground, (s.shape[2], s.shape[3])) > _MASK_FROM).to(s.dtype)
        around = 1 - person
        inside = scale_gradient(masked_mean(s, person, dims=(1, 2, 3)), 0.5)
        values = {"subject_outside": positive(s, around, inside - MARGIN)}
        if background is not None:
            b = background[layer]
            outside = masked_mean(b, around, dims=(1, 2, 3))
            values["complementary"] = cosine_loss(b.flatten(2), s.flatten(2), reference_gradient=0.1, repel=True)
            values["background_inside"] = positive(b, person, outside - MARGIN)
            values["contrast"] = positive(b, person, inside - MARGIN * token_ratio)
            values["contrast"] = values["contrast"] + positive(s, around, outside - MARGIN)
        for name, value in values.items():
            terms[name] = terms[name] + layer_weights[layer] * value
    return terms
