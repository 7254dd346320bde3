"""What teaches a recogniser: an additive angular margin between people, and the ground truth of who they are."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from adaface.miniature.world.identity import CONTINUOUS, DISCRETE

# cos^2 no closer to 1 than this: the slope of an angle by its cosine is infinite there
_FLAT = 1e-6
# Raw embeddings of this length stand for a cosine of 1 to the person's centre.
NORM = 10.0
_HIDDEN = 192


def angular_margin(cosines: Tensor, own: Tensor, margin: float | Tensor) -> Tensor:
    """Cosines (B, N) to all centres -> the same with the angle to the own centre, `own` int64 (B,), made larger.

    cos(angle + margin) of ArcFace (Deng et al. 2019, equation 3). Where the sum passes pi, the straight line that
    keeps falling takes its place, as in the authors' code.
    """
    cosine = cosines.gather(1, own[:, None])
    margin = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device)
    sine = (1 - cosine**2).clamp(min=_FLAT).sqrt()
    moved = cosine * margin.cos() - sine * margin.sin()
    moved = torch.where(cosine > -margin.cos(), moved, cosine - margin * margin.sin())
    return cosines.scatter(1, own[:, None], moved)


def known_factors(factors: np.ndarray) -> Tensor:
    """`Identity.factors` (N, 20) -> float32 (N, 44): measurements brought to unit variance, choices one-hot."""
    values = torch.from_numpy(np.array(factors, np.float32))
    measured = values[:, : len(CONTINUOUS)] * math.sqrt(3)  # of uniform -1..1
    skin = CONTINUOUS.index("skin")
    measured[:, skin] = (values[:, skin] - 0.5) * math.sqrt(12)
    choices = values[:, len(CONTINUOUS) :].long()
    one_hot = [functional.one_hot(choices[:, i], count) for i, count in enumerate(DISCRETE.values())]
    return torch.cat([measured, *one_hot], 1).float()


class PeopleHead(nn.Module):
    """Training only: a centre for each of N people, and the factors of a person read off an embedding.

    `factors` (N, 44) of `known_factors`. With `smooth` a centre is a learned function of the factors of the person, so
    that people who look alike lie close together, and every picture of anybody improves the centres of all; without,
    each person has a centre of their own, as in ArcFace.
    """

    factors: Tensor
    steps: Tensor

    def __init__(self, factors: Tensor, dim: int, *, scale: float, margin: float, warmup: int, smooth: bool):
        super().__init__()
        self.scale, self.margin, self.warmup, self.smooth = scale, margin, warmup, smooth
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        width = factors.shape[1]
        if smooth:
            self.linear = nn.Linear(width, dim)
            self.curved = nn.Sequential(nn.Linear(width, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, dim, bias=False))
        else:
            self.free = nn.Parameter(functional.normalize(torch.randn(len(factors), dim), dim=1))
        self.traits = nn.Linear(dim, width)

    def centres(self) -> Tensor:
        """(N, dim), unit norm."""
        raw = self.linear(self.factors) + self.curved(self.factors) if self.smooth else self.free
        return functional.normalize(raw, dim=1)

    def forward(self, raw: Tensor, person: Tensor) -> dict[str, Tensor]:
        """Raw embeddings (B, dim) of `person` int64 (B,) -> losses by name: margin, measures, choices, norm.

        "norm" asks for a raw embedding as long as `NORM` times the cosine to the own centre, so that hidden or blurred
        faces get short ones.
        """
        unit = functional.normalize(raw, dim=1)
        cosines = unit @ self.centres().T
        own = cosines.detach().gather(1, person[:, None])[:, 0]
        margin = self.margin * (self.steps / self.warmup).clamp(max=1)
        if self.training:
            self.steps += 1
        out = {"margin": functional.cross_entropy(self.scale * angular_margin(cosines, person, margin), person)}
        out["norm"] = functional.mse_loss(raw.norm(dim=1) / NORM, own)
        read, truth = self.traits(unit), self.factors[person]
        count = len(CONTINUOUS)
        out["measures"] = functional.mse_loss(read[:, :count], truth[:, :count])
        sizes = tuple(DISCRETE.values())
        pairs = zip(read[:, count:].split(sizes, 1), truth[:, count:].split(sizes, 1), strict=True)
        out["choices"] = torch.stack([functional.cross_entropy(guess, one_hot) for guess, one_hot in pairs]).mean()
        return out
