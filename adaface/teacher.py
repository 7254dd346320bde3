"""The teacher's prompt: an ID embedding in the place of one word (Arc2Face, Papantoniou et al. 2024).

"photo of a id person" goes through a CLIP text model whose token embedding of `id` is replaced by the ID embedding,
padded with zeros to the width of the text model. Position embeddings are added afterwards, as for any token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

PROMPT = "photo of a id person"
ID_WORD = "id"


def teacher_states(text: CLIPTextModel, tokenizer: CLIPTokenizer, identities: Tensor) -> Tensor:
    """Text states that make a teacher's UNet draw these people.

    Args:
        text: the teacher's text model of width D.
        tokenizer: its tokenizer; `id` must be one token of it.
        identities: (B, id_dim) unit ID embeddings, id_dim <= D.

    Returns:
        (B, 77, D): the last hidden states after the final norm.

    Raises:
        ValueError: when `id` is not one token, or the embeddings are wider than the text model.
    """
    width = text.config.hidden_size
    if identities.ndim != 2 or identities.shape[1] > width:
        raise ValueError(f"ID embeddings must be (B, id_dim) with id_dim <= {width}, got {tuple(identities.shape)}")
    device = next(text.parameters()).device
    tokens = tokenizer(
        PROMPT, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids.to(device)
    word = tokenizer(ID_WORD, add_special_tokens=False).input_ids
    places = (tokens[0] == word[0]).nonzero().flatten().tolist()
    if len(word) != 1 or len(places) != 1:
        raise ValueError(
            f"the tokenizer cuts `{ID_WORD}` into {len(word)} tokens; the teacher's prompt needs it as one"
        )
    at = places[0]
    padded = F.pad(identities.to(device), (0, width - identities.shape[1]))[:, None]

    def put_identity(_module: object, _arguments: object, embeddings: Tensor) -> Tensor:
        return torch.cat([embeddings[:, :at], padded.to(embeddings.dtype), embeddings[:, at + 1 :]], dim=1)

    embedding = text.get_input_embeddings()
    handle = embedding.register_forward_hook(put_identity)
    try:
        return text(tokens.expand(len(identities), -1)).last_hidden_state
    finally:
        handle.remove()
