"""What a stage of training consists of: shares of its kinds of batches, and what is drawn for each.

The defaults are those of the original's two stages (training.md 1, D:514-570 and D:1437-1936).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from adaface.distill.problems import (
    count_problems,
    lists_to_tuples,
    raise_for,
    share_problems,
)
from adaface.distill.token_noise import NoiseSettings

RandomStart = Literal["high", "sampled", "anywhere"]
_TIMESTEPS = 1000  # of Stable Diffusion
_STARTS = ("high", "sampled", "anywhere")


@dataclass(frozen=True)
class PlanSettings:
    """A stage. Probabilities are those of a batch, and of one optimizer step come `accumulate` batches.

    Attributes:
        steps: optimizer steps of the run; what changes over a run, changes over these.
        batch: samples that are planned together: a worker's batch is one or several such groups.
        accumulate: batches per optimizer step, whose losses are averaged.
        compositional_every: the first of so many optimizer steps is compositional; 0: none is.
        distillation: share of the other batches that distil from the teacher; the rest reconstruct.
        random_id: share of distillation on faces that nobody has.
        noised_id: share of the remaining distillation on noised faces.
        teacher_target: share of the then remaining distillation, on faces as they are, that learns the teacher's noise
            and not the true one.
        rollouts: numbers of the teacher's denoising steps, wherever its noise is the target.
        rollout_shares: their probabilities, relative to one another.
        shrink: a rollout of n steps takes only the first 1/n of a group's samples (rounded up), so that steps cost the
            same.
        noised_copies: noised-ID distillation takes copies of the first sample, each with noise of its own, in the place
            of the samples.
        random_start: where rollouts of random faces start. "high": at timesteps that are nearly pure noise, the only
            thing the teacher knows noise at; "sampled": anywhere, from latents that the teacher draws in a few steps;
            "anywhere": as the original, from pure noise taken for a picture.
        random_low: lowest first timestep of "high".
        keep_timesteps: probability, at the beginning and at the end of the run, that timesteps stay as they were drawn.
        compositions: samples of a group that a compositional batch puts into compositions, from the first on; the others
            are left out. 1, as in the original; None: all of them.
        compositional_low: lowest timestep of compositional batches.
        background_reconstruction: probability of a background token in reconstruction.
        background_compositional: the same in compositional batches; distillation has none.
        portrait: probability of the portrait template in compositional batches.
        clip_skip: parameters of the Dirichlet distribution that the weights of the text encoder's last layers are drawn
            from, the last for the last layer.
        noise: on faces and vectors.

    Raises:
        ValueError: naming everything that is wrong.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: int = 60_000
    batch: int = 4
    accumulate: int = 2
    compositional_every: int = 0
    distillation: float = 1.0
    random_id: float = 0.4
    noised_id: float = 0.6
    teacher_target: float = 0.5
    rollouts: tuple[int, ...] = (1, 3, 5, 7)
    rollout_shares: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    shrink: bool = True
    noised_copies: bool = True
    random_start: RandomStart = "high"
    random_low: int = 950
    keep_timesteps: tuple[float, float] = (0.4, 0.2)
    compositions: int | None = 1
    compositional_low: int = 800
    background_reconstruction: float = 0.9
    background_compositional: float = 0.5
    portrait: float = 0.9
    clip_skip: tuple[float, ...] = (1.0, 2.0, 2.0)
    noise: NoiseSettings = field(default_factory=NoiseSettings)

    def __post_init__(self) -> None:
        lists_to_tuples(self, "rollouts", "rollout_shares", "keep_timesteps", "clip_skip")
        shares = ("distillation", "random_id", "noised_id", "teacher_target", "portrait")
        backgrounds = ("background_reconstruction", "background_compositional")
        raise_for(
            "the plan",
            count_problems(self, 1, "steps", "batch", "accumulate"),
            count_problems(self, 1, "compositions") if self.compositions is not None else [],
            count_problems(self, 0, "compositional_every", "random_low", "compositional_low"),
            [
                f"{name} must be below {_TIMESTEPS}, not {getattr(self, name)}"
                for name in ("random_low", "compositional_low")
                if isinstance(getattr(self, name), int) and getattr(self, name) >= _TIMESTEPS
            ],
            self._composition_problems(),
            share_problems(self, *shares, *backgrounds),
            self._rollout_problems(),
            [] if self.random_start in _STARTS else [f"random_start must be one of {', '.join(_STARTS)}"],
            # the range is that of a probability, and may fall
            [] if _both_shares(self.keep_timesteps) else ["keep_timesteps must be two numbers in 0..1"],
            [] if _weights(self.clip_skip) else ["clip_skip must be numbers above 0, one per layer"],
        )

    @property
    def composes(self) -> bool:
        """Whether there are compositional batches."""
        return self.compositional_every > 0

    @property
    def sees_photos(self) -> bool:
        """Whether there are batches that look at more of a photograph than its latents: reconstruction, compositions."""
        return self.composes or self.distillation < 1

    def _composition_problems(self) -> list[str]:
        if (
            isinstance(self.compositions, int)
            and isinstance(self.batch, int)
            and self.compositions > max(self.batch, 1)
        ):
            return [f"compositions must be at most batch, {self.batch}, not {self.compositions}"]
        return []

    def _rollout_problems(self) -> list[str]:
        whole = all(isinstance(steps, int) and steps >= 1 for steps in self.rollouts)
        if not self.rollouts or not whole or len(set(self.rollouts)) != len(self.rollouts):
            return [f"rollouts must be different whole numbers, 1 or more, not {self.rollouts!r}"]
        if len(self.rollout_shares) != len(self.rollouts) or not _weights(self.rollout_shares):
            return [f"rollout_shares must be {len(self.rollouts)} numbers above 0, one per length in rollouts"]
        return []


_STAGES: dict[int, dict[str, Any]] = {
    1: {},
    2: {
        "steps": 30_000,
        "batch": 3,
        "compositional_every": 3,
        "distillation": 0.2,
        "rollouts": (1, 3),
        "rollout_shares": (4 / 7, 3 / 7),
    },
}


def stage_settings(stage: int, **changes: Any) -> PlanSettings:
    """The original's stage 1 or 2, with changes by name. Raises ValueError for another stage, or an unknown name."""
    if stage not in _STAGES:
        raise ValueError(f"there are stages 1 and 2, and no {stage!r}")
    known = {entry.name for entry in fields(PlanSettings)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"a plan has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return PlanSettings(**{**_STAGES[stage], **changes})


def _both_shares(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and all(0 <= share <= 1 for share in pair)


def _weights(numbers: Any) -> bool:
    return isinstance(numbers, tuple) and bool(numbers) and all(number > 0 for number in numbers)
