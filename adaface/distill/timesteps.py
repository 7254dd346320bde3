"""Which timesteps are trained: drawn for the first step of a rollout, then a ladder downwards (D:2907-2987, U:1490).

All are int64 (B,), 0..T-1; high is much noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adaface.distill.draws import Generators, integers, uniform

RAISE = (1.0, 1.3)  # a timestep that is drawn again comes from between these multiples of it
_DROP = (0.5, 0.7)  # the next one of a two-step rollout comes from between these multiples
_HEAD = 4  # weight of the drawn timestep against the highest, see `rollout_start`


def draw_timesteps(generators: Generators, *, low: int = 0, keep: bool, timesteps: int = 1000) -> Tensor:
    """Uniform over low..T-1, then, unless `keep`, each once more from `range_around` it: towards more noise.

    The original keeps a batch's with a probability that falls from 0.4 to 0.2 over a run.
    """
    t = integers(generators, low, timesteps)
    if keep:
        return t
    lowest, highest = range_around(t, RAISE, timesteps=timesteps)
    return within(lowest, highest, uniform(generators))


def range_around(t: Tensor, ratios: tuple[float, float], *, timesteps: int = 1000) -> tuple[Tensor, Tensor]:
    """Lowest and highest timestep, both included, between these multiples of t."""
    lowest = (t.double() * ratios[0]).long().clamp(min=0)
    highest = (t.double() * ratios[1]).long().clamp(max=timesteps - 1)
    return lowest, highest


def within(lowest: Tensor, highest: Tensor, share: Tensor) -> Tensor:
    """The whole number at `share` (float64 (B,) in [0, 1)) of lowest..highest, each of them equally likely."""
    return (lowest + (share * (highest - lowest + 1)).long()).clamp(max=highest)


def rollout_start(t: Tensor, steps: int, *, timesteps: int = 1000) -> Tensor:
    """First timestep of a rollout of so many steps: floor((4·t + T·(steps - 1)) / (3 + steps)).

    Longer rollouts start higher: 3 steps at T/3 and up, 5 at T/2, 7 at 0.6·T.
    """
    return (_HEAD * t + timesteps * (steps - 1)) // (_HEAD - 1 + steps)


def next_timesteps(t: Tensor, steps: int, share: Tensor) -> Tensor:
    """The next timestep down the ladder: floor of a number between t·0.5^p and t·0.7^p, p = (steps - 1)^-0.3.

    Args:
        t: of the step before.
        steps: of the whole rollout, 2 or more; long rollouts go down in smaller steps (x0.57 to x0.75 of 3 steps,
            x0.67 to x0.81 of 7).
        share: (B,) in [0, 1): where between both.
    """
    power = (steps - 1) ** -0.3
    low, high = (t.float() * ratio**power for ratio in _DROP)
    return torch.floor(low + (high - low) * share.float()).long()
