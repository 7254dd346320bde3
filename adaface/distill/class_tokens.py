"""A class word takes the slots of the subject's tokens, so that class and subject prompts match token by token.

Class prompts are written with fillers behind the class word, as many as make the subject's length; once they are
encoded, the states of those slots are put right.
"""

from __future__ import annotations

import torch
from torch import Tensor


def merge_class_words(states: Tensor, at: int, count: int) -> Tensor:
    """Text states (B, T, D) of a class of several words, with their weighted mean in place of the words.

    Weights are the squares of (1, ..., 1, 2): 0.2 and 0.8 for two words. Everything behind moves up, but for the last
    `count` tokens, which stay: the end of the window is pads. U: merge_cls_token_embeddings.

    Args:
        at: position of the first word.
        count: of words; 1 changes nothing.
    """
    if count == 1:
        return states
    weights = torch.ones(count, device=states.device, dtype=states.dtype)
    weights[-1] = 4
    weights = weights / weights.sum()
    word = (states[:, at : at + count] * weights[:, None]).sum(1, keepdim=True)
    end = states.shape[1]
    return torch.cat([states[:, :at], word, states[:, at + count : end - 1], states[:, end - count :]], dim=1)


def spread_class_word(states: Tensor, at: int, count: int) -> Tensor:
    """Text states (B, T, D) with the one at `at`, divided by sqrt(count), in `count` places from there on.

    U: distribute_embedding_to_M_tokens.
    """
    word = states[:, at : at + 1] / count**0.5
    return torch.cat([states[:, :at], word.expand(-1, count, -1), states[:, at + count :]], dim=1)
