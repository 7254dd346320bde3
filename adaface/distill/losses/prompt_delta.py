"""What a composition changes in a prompt's text states should be the same for the subject as for its class."""

from __future__ import annotations

from torch import Tensor

from adaface.distill.losses.operators import cosine_loss, in_float32, orthogonal


def token_weights(alone: Tensor, composition: Tensor) -> Tensor:
    """(G, T): ((alone + composition) / 2)^2: words of both prompts 1, words of the composition only 0.25.

    Args:
        alone, composition: (G, T), 1 at words and 0 at start, end and pads of the two prompts.
    """
    return (alone + composition).square() / 4


@in_float32
def prompt_delta(states: Tensor, weights: Tensor | None = None, *, class_gradient: float = 0.05) -> Tensor:
    """(G,): cosL( orth(sc, ss), orth(cc, cs) ), rows' means taken off, exponent 2. U: calc_prompt_emb_delta_loss.

    Args:
        states: (4G, T, D), or (4G, L, T, D) with one prompt per layer: four blocks of subject alone (ss), subject in
            the composition (sc), class alone (cs), class in the composition (cc).
        weights: (G, T) of the tokens, see `token_weights`; None: all ones.
        class_gradient: share of the gradient that reaches the class prompts' difference.
    """
    ss, sc, cs, cc = states.chunk(4)
    if weights is not None and states.ndim == 4:
        weights = weights.unsqueeze(1)
    return cosine_loss(
        orthogonal(sc, ss), orthogonal(cc, cs), demean=True, reference_gradient=class_gradient, weights=weights
    )
