"""The teacher's prompt: an ID embedding in the place of one word (Arc2Face, Papantoniou et al. 2024).

"photo of a id person" goes through a CLIP text model whose token embedding of `id` is replaced by the ID embedding,
padded with zeros to the width of the text model. Position embeddings are added afterwards, as for any token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from adaface.encoder.clip_text import embed_with
from adaface.encoder.config import ID_WORD
from adaface.encoder.config import TEACHER_PROMPT as PROMPT

__all__ = ["ID_WORD", "PROMPT", "teacher_states", "teacher_states_of"]


def teacher_states(text: CLIPTextModel, tokenizer: CLIPTokenizer, identities: Tensor) -> Tensor:
    """Text states that make a teacher's UNet draw these people.

    Args:
        text: the teacher's text model of width D.
        tokenizer: its tokenizer; `id` must be one token of it.
        identities: (B, id_dim) unit ID embeddings, id_dim <= D.

    Returns:
        (B, 77, D): the last hidden states after the final norm, in the model's dtype.

    Raises:
        ValueError: when `id` is not one token, or the embeddings are wider than the text model.
    """
    _check(text, identities)
    tokens = tokenizer(PROMPT, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
    word = tokenizer(ID_WORD, add_special_tokens=False).input_ids
    if len(word) != 1 or tokens.count(word[0]) != 1:
        raise ValueError(
            f"the tokenizer cuts `{ID_WORD}` into {len(word)} tokens; the teacher's prompt needs it as one"
        )
    return teacher_states_of(text, tokens, tokens.index(word[0]), identities)


def teacher_states_of(text: CLIPTextModel, tokens: Sequence[int], at: int, identities: Tensor) -> Tensor:
    """`teacher_states` without a tokenizer.

    Args:
        tokens: the T token ids of the prompt, start, end and padding included. Its states at a place do not depend on
            what stands behind it, so a shorter padding only leaves states out.
        at: place of `id`.
        identities: (B, id_dim); zeros give the original's negative prompt.

    Returns:
        (B, T, D) in the model's dtype.
    """
    _check(text, identities)
    device = text.get_input_embeddings().weight.device
    ids = torch.tensor([list(tokens)], device=device)
    padded = F.pad(identities, (0, text.config.hidden_size - identities.shape[1]))
    return embed_with(text, ids, padded[:, None], at)


def _check(text: CLIPTextModel, identities: Tensor) -> None:
    width = text.config.hidden_size
    if identities.ndim != 2 or identities.shape[1] > width:
        raise ValueError(f"ID embeddings must be (B, id_dim) with id_dim <= {width}, got {tuple(identities.shape)}")
