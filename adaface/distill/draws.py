"""Chance that can be asked for again: a stream of random numbers of its own for every step, sample and purpose.

A stream is named by what it is for, `(seed, step, sample, "noise")`, and not by what was drawn before it. So a resumed
run draws what an uninterrupted one would have drawn, and two workers draw together what one with both batches draws.
Numbers come from the CPU and are moved, because those of a GPU are others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Generators = Sequence[torch.Generator]  # one per sample of a batch


def torch_generator(*name: int | str) -> torch.Generator:
    """The stream of this name for tensors, at its beginning. Its seed has 32 bits: torch's CPU generator reads no more."""
    generator = torch.Generator()
    generator.manual_seed(_number(name) & 0xFFFF_FFFF)
    return generator


def numpy_generator(*name: int | str) -> np.random.Generator:
    """The stream of this name for choices and words, at its beginning (Philox with a key of 128 bits)."""
    return np.random.Generator(np.random.Philox(key=_number(name)))


def normal(generators: Generators, shape: Sequence[int], *, device: torch.device | str = "cpu") -> Tensor:
    """float32 (B, *shape), standard normal; row b comes from `generators[b]` alone."""
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators]).to(device)


def uniform(generators: Generators) -> Tensor:
    """float64 (B,) in [0, 1), on the CPU."""
    return torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])


def integers(generators: Generators, low: int, high: int) -> Tensor:
    """int64 (B,), uniform over low..high-1, on the CPU."""
    return torch.cat([torch.randint(low, high, (1,), generator=generator) for generator in generators])


def _number(name: tuple[int | str, ...]) -> int:
    """128 bits; a number and the text of it give different ones, as do different cuts of one text."""
    return int.from_bytes(hashlib.blake2b(repr(name).encode(), digest_size=16).digest(), "little")
