"""Noise on faces and on the vectors of a subject, so that the encoder is right around the faces it has seen, too.

The original takes one spread for a whole batch and one level for all of its samples; here each sample has its own, so
that a sample's noise depends on nothing but its own stream. Levels are in units of the spread of a row's values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adaface.distill.draws import Generators
from adaface.distill.problems import lists_to_tuples, raise_for, range_problems, share_problems
from adaface.encoder.noise import add_noise


@dataclass(frozen=True)
class NoiseSettings:
    """Where noise is put in, and how much (low and high end of a uniform draw).

    Attributes:
        noised_id: on the ID embedding of noised-ID distillation; teacher and student see the same one.
        student_id: on the student's ID embedding alone, in all other batches, with probability `student_id_share`.
        student_id_share: see `student_id`.
        token: on each of the student's sixteen vectors, with probability `token_share` each.
        token_share: in distillation and reconstruction. The original's setting of 0 for distillation is never read.
        token_share_compositional: in compositional batches.

    Raises:
        ValueError: naming everything that is wrong.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    noised_id: tuple[float, float] = (0.02, 0.06)
    student_id: tuple[float, float] = (0.01, 0.02)
    student_id_share: float = 0.5
    token: tuple[float, float] = (0.02, 0.04)
    token_share: float = 0.6
    token_share_compositional: float = 0.4

    def __post_init__(self) -> None:
        ranges = ("noised_id", "student_id", "token")
        lists_to_tuples(self, *ranges)
        raise_for(
            "noise",
            range_problems(self, *ranges),
            share_problems(self, "student_id_share", "token_share", "token_share_compositional"),
        )


def noised_ids(ids: Tensor, level: float, generators: Generators) -> Tensor:
    """ID embeddings (B, id_dim) with noise of this level; every row keeps its length (D:1750-1783). 0 changes nothing."""
    if level == 0:
        return ids
    rows = [
        add_noise(row, level, keep_norm=True, generator=generator)
        for row, generator in zip(ids.split(1), generators, strict=True)
    ]
    return torch.cat(rows)


def noised_tokens(vectors: Tensor, share: float, levels: tuple[float, float], generators: Generators) -> Tensor:
    """The vectors of subjects with noise on some of them (EM, `add_noise_to_tensor`).

    Args:
        vectors: (B, K, D); gradients pass to them as if there were no noise.
        share: probability of noise, for each of the K vectors on its own.
        levels: low and high end of a vector's level, drawn uniformly.

    Returns:
        (B, K, D); lengths are not restored.
    """
    if share == 0:
        return vectors
    count, width = vectors.shape[1:]
    noise = []
    for generator in generators:
        chosen = torch.rand(count, generator=generator) < share
        level = levels[0] + (levels[1] - levels[0]) * torch.rand(count, generator=generator)
        noise.append((chosen * level)[:, None] * torch.randn(count, width, generator=generator))
    spread = vectors.detach().std(dim=-1, keepdim=True)
    return vectors + spread * torch.stack(noise).to(vectors)
