"""Stage 1: the student's UNet, told the person in words, predicts the noise that the teacher's predicts from a face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adaface.distill.data import Faces
from adaface.distill.draws import normal
from adaface.distill.losses.reconstruction import over_rollout, reconstruction
from adaface.distill.models import FrozenModels
from adaface.distill.plan import BatchPlan, IterationPlan, Row
from adaface.distill.problems import raise_for
from adaface.distill.rollout import RolloutStep, sampled_latents, student_steps, teacher_rollout
from adaface.distill.subject_prompts import TOKEN, SubjectPrompts
from adaface.distill.templates import Templates
from adaface.distill.timesteps import draw_timesteps, rollout_start
from adaface.distill.token_noise import noised_ids, noised_tokens
from adaface.distill.weights import LossWeights
from adaface.encoder.model import AdaFaceEncoder
from adaface.encoder.teacher import teacher_states_of

_SNR_CAP, _HIGH_NOISE_CAP = 5.0, 5.0


@dataclass(frozen=True)
class DistillationSettings:
    """How the teacher is asked and what its answer counts.

    Attributes:
        teacher_guidance: of the teacher's noise, against the face of nobody; 1, as in the original: none.
        index_slip: the original's slip in rollouts, see `student_steps`.
        timestep_weights: "even", as in the original, or "snr": min-SNR weights (Hang et al. 2023) raised for high noise,
            where it is decided who somebody is; for small networks.

    Raises:
        ValueError: naming everything that is wrong.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    teacher_guidance: float = 1.0
    index_slip: bool = False
    timestep_weights: Literal["even", "snr"] = "even"

    def __post_init__(self) -> None:
        problems = []
        if self.teacher_guidance < 1:
            problems.append(f"teacher_guidance must be 1 or more, not {self.teacher_guidance}")
        if self.timestep_weights not in ("even", "snr"):
            problems.append(f"timestep_weights must be even or snr, not {self.timestep_weights!r}")
        raise_for("distillation", problems)


def distillation_loss(
    models: FrozenModels,
    encoder: AdaFaceEncoder,
    prompts: SubjectPrompts,
    plan: IterationPlan,
    batch: BatchPlan,
    rows: Sequence[Row],
    faces: Faces,
    settings: DistillationSettings,
    weights: LossWeights,
    templates: Templates,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch of kind "random_id", "noised_id" or "clean_id", and numbers for the log, without gradient.

    L = mean over samples of sum over the rollout's steps of |m (e_student - e_target)|^2 / sqrt(steps), m the person's
    mask for photographs (and some of the background: `LossWeights.pixels_of_teacher` and `.pixels_of_noise`), 1 for
    faces that nobody has.

    Args:
        rows: the samples that are computed.
        faces: of these rows.
    """
    faces, teach = _people(models, encoder, plan, batch, rows, faces, settings)
    steps = _answers(models, teach, plan, batch, rows, faces.latents, settings)
    background = weights.pixels_of_teacher if batch.target == "teacher" else weights.pixels_of_noise

    vectors = student_vectors(encoder, plan, batch, rows, faces.ids)
    texts = [templates.draw(plan.chooser(batch.step, row.slot, "template", batch=batch.number)) for row in rows]
    tokens, slots = prompts.windows([text.format(TOKEN) for text in texts])
    states = prompts.states(tokens, slots, vectors, batch.clip_skip)

    # one call for all steps: their x_t are the teacher's and depend on nothing that the student says
    count = len(steps)
    predict = models.predict(models.student, torch.cat([states] * count))
    predicted = predict(torch.cat([s.x_t for s in steps]), torch.cat([s.t for s in steps])).chunk(count)
    losses, raw = [], []
    for step, guess in zip(steps, predicted, strict=True):
        error = reconstruction(
            guess, step.target, foreground=faces.foreground, valid=faces.valid, background_weight=background
        )
        raw.append(error.detach())
        if settings.timestep_weights == "snr":
            error = error * snr_weights(models, step.t)
        losses.append(error)
    loss = weights.total({"reconstruction": over_rollout(losses)}).mean()
    numbers = {
        "recon": torch.stack(raw).mean(),
        "t": torch.cat([step.t for step in steps]).float().mean(),
    }
    return loss, numbers


def _people(
    models: FrozenModels,
    encoder: AdaFaceEncoder,
    plan: IterationPlan,
    batch: BatchPlan,
    rows: Sequence[Row],
    faces: Faces,
    settings: DistillationSettings,
) -> tuple[Faces, _Teacher]:
    """Who is learned from, with the batch's noise on their IDs, and a teacher who knows them.

    Faces that nobody has have no photograph: noise in its place, or what the teacher draws of them, without mask and border.
    """

    def made_up(purpose: str, like: Tensor) -> Tensor:
        return normal(plan.generators(batch, rows, purpose), like.shape[1:], device=models.device)

    nobody = batch.kind == "random_id"
    ids = F.normalize(made_up("identity", faces.ids), dim=-1) if nobody else faces.ids
    ids = noised_ids(ids, batch.id_level, plan.generators(batch, rows, "id noise"))
    teach = teacher_of(models, encoder, ids, settings.teacher_guidance)
    if not nobody:
        return replace(faces, ids=ids), teach
    latents = made_up("start", faces.latents)
    if plan.settings.random_start == "sampled":
        latents = sampled_latents(teach, models.schedule, latents)
    return replace(faces, ids=ids, latents=latents, foreground=None, valid=None), teach


def _answers(
    models: FrozenModels,
    teach: _Teacher,
    plan: IterationPlan,
    batch: BatchPlan,
    rows: Sequence[Row],
    x_start: Tensor,
    settings: DistillationSettings,
) -> list[RolloutStep]:
    """What is shown to the student, and what it should say: the teacher's noise in a rollout, or once the true noise."""

    def generators(purpose: str) -> list[torch.Generator]:
        return plan.generators(batch, rows, purpose)

    t = draw_timesteps(generators("timesteps"), low=batch.low, keep=batch.keep_timesteps)
    noise = normal(generators("noise"), x_start.shape[1:], device=models.device)
    if batch.target == "teacher":
        t = rollout_start(t, batch.rollout)
        steps = teacher_rollout(teach, models.schedule, x_start, t, noise, batch.rollout, generators("rollout"))
        return student_steps(steps, models.schedule, index_slip=settings.index_slip)
    t = t.to(models.device)
    return [RolloutStep(models.schedule.q_sample(x_start, t, noise), t, noise, noise, x_start, x_start)]


def teacher_of(models: FrozenModels, encoder: AdaFaceEncoder, ids: Tensor, guidance: float) -> _Teacher:
    """What the teacher's UNet predicts for people of unit ID embeddings (B, id_dim)."""
    with torch.no_grad():
        states = teacher_states(models, encoder, ids)
        nobody = None
        if guidance != 1:
            nobody = teacher_states(models, encoder, torch.zeros_like(ids[:1])).expand_as(states)
    return _Teacher(models, states, nobody, guidance)


@dataclass(frozen=True)
class _Teacher:
    models: FrozenModels
    states: Tensor  # (B, T, D)
    nobody: Tensor | None  # the same, of the ID of zeros
    guidance: float

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        if self.nobody is None:
            return self.models.predict(self.models.teacher, self.states)(x_t, t)
        states = torch.cat([self.nobody, self.states])
        without, with_ = self.models.predict(self.models.teacher, states)(x_t.repeat(2, 1, 1, 1), t.repeat(2)).chunk(2)
        return without + self.guidance * (with_ - without)


@torch.no_grad()
def teacher_states(models: FrozenModels, encoder: AdaFaceEncoder, ids: Tensor) -> Tensor:
    """(B, T, D) of "photo of a id person", padded to the window: what the teacher's UNet was trained with."""
    config = encoder.config
    window = encoder.teacher.config.max_position_embeddings
    tokens = config.padded(config.teacher_tokens, window)
    with models.autocast():
        return teacher_states_of(encoder.teacher, tokens, config.slot, ids).float()


def student_vectors(
    encoder: AdaFaceEncoder, plan: IterationPlan, batch: BatchPlan, rows: Sequence[Row], ids: Tensor
) -> Tensor:
    """The encoder's vectors (B, 16, D) of the people, with the plan's noise on IDs and vectors."""
    return vectors_of_core(encoder, plan, batch, rows, student_core(encoder, plan, batch, rows, ids))


def student_core(
    encoder: AdaFaceEncoder, plan: IterationPlan, batch: BatchPlan, rows: Sequence[Row], ids: Tensor
) -> Tensor:
    """What the teacher says of the people as the student sees them, (B, 16, D): the same for encoders of one teacher."""
    return encoder.teacher_core(
        noised_ids(ids, batch.student_id_level, plan.generators(batch, rows, "student id noise"))
    )


def vectors_of_core(
    encoder: AdaFaceEncoder, plan: IterationPlan, batch: BatchPlan, rows: Sequence[Row], core: Tensor
) -> Tensor:
    """The second half of `student_vectors`."""
    levels = plan.settings.noise.token
    return noised_tokens(encoder.invert(core), batch.token_share, levels, plan.generators(batch, rows, "token noise"))


def snr_weights(models: FrozenModels, t: Tensor) -> Tensor:
    """float32 (B,): min(snr, 5) / snr * min(sqrt(1 + 1 / snr), 5) at these timesteps, snr = signal^2 / noise^2."""
    schedule = models.schedule
    snr = (schedule.signal[t] / schedule.noise[t]).square()
    return snr.clamp(max=_SNR_CAP) / snr * (1 + 1 / snr).sqrt().clamp(max=_HIGH_NOISE_CAP)
