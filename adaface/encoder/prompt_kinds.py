"""What the inverse encoder says behind the sixteen vectors, and five ways of the original to keep or replace it.

Only these states are changed; the sixteen vectors are the same in all kinds.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from adaface.encoder.config import VECTORS

Kind = Literal["full", "full_half_pad", "full_pad", "full_zeroed_extra", "b_core_e"]
KINDS: tuple[str, ...] = get_args(Kind)
_KEPT = 2  # of the places behind the vectors: the end token and one more, or two extra words of the original


def as_kind(states: Tensor, pads: Tensor, kind: Kind, *, slot: int = 4) -> Tensor:
    """States of the inverse encoder's prompt, its tail replaced (the original's `inverse_arc2face` return types).

    With T tokens and `slot` 4, the sixteen vectors stand at 4..19 and two more states are always kept, so the tail is
    22..T-2; the last state is kept, too.

    Args:
        states: (B, T, D).
        pads: (T' >= T, D) the pad table.
        kind: `full` keeps everything; `full_half_pad` (the original's evaluation) replaces the first half of the tail
            by pads; `full_pad` (its training) all of it; `full_zeroed_extra` its first two by pads, the others by 0;
            `b_core_e` leaves the tail out: (B, 23, D).

    Returns:
        (B, T, D), or (B, slot + 19, D) for `b_core_e`; a new tensor, but for `full`.

    Raises:
        ValueError: for another kind, or when there are too few tokens for it.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r}, only {', '.join(KINDS)}")
    length = states.shape[1]
    start, end = slot + VECTORS + _KEPT, length - 1
    tail = end - start
    needed = {"full": -_KEPT, "full_half_pad": -_KEPT, "full_pad": 0, "full_zeroed_extra": 2, "b_core_e": 0}[kind]
    if tail < needed:
        raise ValueError(f"{kind} needs a prompt of {start + 1 + needed} tokens or more, not {length}")
    if kind == "b_core_e":
        return torch.cat([states[:, :start], states[:, end:]], dim=1)
    pads = pads[:length].to(states).expand(len(states), -1, -1)
    if kind == "full_zeroed_extra":
        zeros = torch.zeros_like(states[:, start + 2 : end])
        return torch.cat([states[:, :start], pads[:, start : start + 2], zeros, states[:, end:]], dim=1)
    replaced = {"full": 0, "full_half_pad": max(tail, 0) // 2, "full_pad": tail}[kind]
    if not replaced:
        return states
    return torch.cat([states[:, :start], pads[:, start : start + replaced], states[:, start + replaced :]], dim=1)
