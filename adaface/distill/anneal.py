"""Quantities that change over a run, by its progress in 0..1 (the original's "training percent")."""

from __future__ import annotations


def annealed(progress: float, first: float, last: float) -> float:
    """first + (last - first)·progress, held at `last` from the end on (U:1468).

    The original's form for ranges that end before the run does jumps at their end; nothing in its runs uses that.
    """
    return last if progress >= 1 else first + (last - first) * progress


def around(mean: float, share: float, *, spread: float = 0.2, low: float = 0.0, high: float = 1.0) -> float:
    """The number at `share` in [0, 1) of (1 - spread)·mean..(1 + spread)·mean, kept within low..high (U, rand_annealed)."""
    return min(max(mean * (1 - spread + 2 * spread * share), low), high)
