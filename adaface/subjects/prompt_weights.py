"""Words that count more or less: `(word:1.3)`, `(word)`, `[word]` in a prompt, in the manner of A1111's web UI.

    (word)       1.1 times          ((word))     1.1 * 1.1 times
    [word]       1 / 1.1 times      (word:1.3)   1.3 times; brackets inside one another multiply
    \\( \\) \\[ \\] \\\\   the character itself

As there, a bracket that is never closed reaches to the end of the prompt, a closing one without an opening one is a
plain character, and so is a colon that no number and `)` follow. Scheduling (`[from:to:0.5]`) and `BREAK` are not part
of it. The weights scale the final text states of their tokens, and the states' mean is put back to what it was.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

MORE, LESS = 1.1, 1 / 1.1
_PART = re.compile(r"\\[\\()\[\]]|[()\[\]]|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|[^\\()\[\]:]+|[\\:]")


def parse(text: str) -> list[tuple[str, float]]:
    """The plain pieces of `text`, in order, each with its weight; neighbours of equal weight are one piece."""
    pieces: list[tuple[str, float]] = []
    open_brackets: list[tuple[str, int]] = []  # the bracket, and how many pieces there were before it
    for part in _PART.findall(text):
        if part in ("(", "["):
            open_brackets.append((part, len(pieces)))
        elif part == ")" and _innermost(open_brackets) == "(":
            _multiply(pieces, open_brackets.pop()[1], MORE)
        elif part == "]" and _innermost(open_brackets) == "[":
            _multiply(pieces, open_brackets.pop()[1], LESS)
        elif len(part) > 1 and part[0] == ":" and _innermost(open_brackets) == "(":
            _multiply(pieces, open_brackets.pop()[1], float(part[1:-1]))
        else:
            pieces.append((part[1:] if len(part) == 2 and part[0] == "\\" else part, 1.0))
    for bracket, start in open_brackets:
        _multiply(pieces, start, MORE if bracket == "(" else LESS)
    merged: list[tuple[str, float]] = []
    for piece, weight in pieces:
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + piece, weight)
        else:
            merged.append((piece, weight))
    return merged


def escape(text: str) -> str:
    """`text` such that `parse` gives it back as it is, with weight 1."""
    return re.sub(r"([\\()\[\]])", r"\\\1", text)


def weigh(states: Tensor, weights: Tensor) -> Tensor:
    """Scale the states of each token by its weight and restore the mean of each row.

    Args:
        states: (B, T, D), of any float dtype.
        weights: (B, T).

    Returns:
        (B, T, D) of the dtype of `states`; rows whose weights are all 1 come back bit for bit.
    """
    touched = (weights != 1).any(dim=1)
    if not touched.any():
        return states
    plain = states[touched].float()
    scaled = plain * weights[touched, :, None].to(plain)
    before, after = plain.mean(dim=(1, 2), keepdim=True), scaled.mean(dim=(1, 2), keepdim=True)
    # a mean of nothing cannot be restored by a factor
    factor = torch.where(after.abs() > 1e-6, before / after, torch.ones_like(after))
    out = states.clone()
    out[touched] = (scaled * factor).to(states.dtype)
    return out


def _innermost(open_brackets: list[tuple[str, int]]) -> str | None:
    return open_brackets[-1][0] if open_brackets else None


def _multiply(pieces: list[tuple[str, float]], start: int, factor: float) -> None:
    pieces[start:] = [(text, weight * factor) for text, weight in pieces[start:]]
