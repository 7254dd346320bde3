"""Which sample is drawn when: independent draws with replacement, each of which can be made without the others.

A draw is a function of the seed and its number alone (Philox, a generator that counts; Salmon et al. 2011), so a stream
that is resumed, or divided among other processes, has nothing to catch up on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

# What the numbers of a draw are for. Each has its own, so that one more of a kind does not shift the others.
SAMPLE, AUGMENTATION = 0, 1


class SamplingConfig(BaseModel):
    """How often whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    balance: Literal["images", "identities"] = Field(
        default="images",
        description="images: people are drawn in proportion to their images, counted up to `cap`; "
        "identities: all people equally often",
    )
    cap: int | None = Field(
        default=20, ge=1, description="images counted of one identity, at most; any of them may be drawn"
    )
    flat_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of draws from images of unknown people (layout flat); null: in proportion to their number",
    )


def draw_rng(seed: int, purpose: int, number: int, attempt: int = 0) -> np.random.Generator:
    """The random numbers of one draw.

    Args:
        seed: 0 .. 2^64 - 1.
        purpose: SAMPLE or AUGMENTATION.
        number: of the draw, 0 .. 2^64 - 1.
        attempt: counts on where the first choice cannot be used.
    """
    key, counter = np.array([seed, purpose], np.uint64), np.array([0, attempt, number, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))  # counts on in the first word of `counter`


class Sampler:
    """Draws samples.

    First a group is drawn, then one of its samples, all of which are equally likely. A group is an identity; of the
    images of unknown people, all of one source are a group. Probabilities of groups (reference: SubjectSampler of
    personalized.py): as their counts, those of identities up to `cap`.

    Attributes:
        groups: (name of the identity, or of the source; whether it is a source of unknown people), sorted.
        probabilities: (G,) float64, of the groups.

    Raises:
        ValueError: for a share that the samples cannot give.
    """

    def __init__(
        self, identities: Sequence[str | None], sources: Sequence[str], config: SamplingConfig, seed: int
    ) -> None:
        """
        Args:
            identities, sources: of every sample.
        """
        self.config, self.seed = config, seed
        names = [
            (source, True) if identity is None else (identity, False)
            for identity, source in zip(identities, sources, strict=True)
        ]
        self.groups: list[tuple[str, bool]] = sorted(set(names))
        number = {group: index for index, group in enumerate(self.groups)}
        group_of = np.array([number[name] for name in names])
        self._order = np.argsort(group_of, kind="stable")  # samples, group by group
        self._counts = np.bincount(group_of, minlength=len(self.groups))
        self._starts = np.concatenate([[0], np.cumsum(self._counts)[:-1]])
        self.probabilities = _probabilities(self._counts, np.array([flat for _, flat in self.groups]), config)
        self._bounds = np.cumsum(self.probabilities)
        self._bounds[np.flatnonzero(self.probabilities)[-1] :] = 1.0  # whatever the rounding of the sum

    def draw(self, number: int, attempt: int = 0) -> int:
        """The sample of a draw; with another `attempt` an independent one."""
        which, member = draw_rng(self.seed, SAMPLE, number, attempt).random(2)
        group = int(np.searchsorted(self._bounds, which, side="right"))
        return int(self._order[self._starts[group] + int(member * self._counts[group])])


def _probabilities(counts: np.ndarray, flat: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """(G,) float64 that sum to 1, of groups with `counts` (G,) samples; `flat` (G,) bool: unknown people."""
    capped = np.where(flat, counts, np.minimum(counts, config.cap or counts.max())).astype(np.float64)
    share = config.flat_share
    if share is None:
        share = capped[flat].sum() / capped.sum()
    if share > 0 and not flat.any():
        raise ValueError(
            f"sampling.flat_share is {share:g}, but no source has the layout `flat`; set it to 0 or to null"
        )
    if share < 1 and flat.all():
        raise ValueError(f"sampling.flat_share is {share:g}, but every source has the layout `flat`; set it to null")
    known = np.where(flat, 0.0, capped if config.balance == "images" else 1.0)
    unknown = np.where(flat, capped, 0.0)
    return (1 - share) * known / max(known.sum(), 1.0) + share * unknown / max(unknown.sum(), 1.0)
