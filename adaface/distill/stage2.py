"""Stage 2: the words of a prompt around the subject keep their effect, and the subject stays who it is.

Compositional batches compare what the UNet attends to and computes for the subject with what it does for the class
word, alone and in a composition; the rest reconstructs photographs, or distils as stage 1 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from adaface.distill.background import background_vectors
from adaface.distill.clip_score import ClipScore
from adaface.distill.composition_prompts import FourPrompts, FourStates, delta_of, draw_prompts, four_states
from adaface.distill.compositions import Compositions
from adaface.distill.contexts import layer_contexts
from adaface.distill.data import Faces
from adaface.distill.draws import integers, normal
from adaface.distill.features import capture, cross_attentions, loss_places
from adaface.distill.foreground_start import draw_start, start_from_person
from adaface.distill.losses.cross_layer import cross_layer_terms
from adaface.distill.losses.deltas import attention_delta, attention_norm, feature_delta
from adaface.distill.losses.elastic_matching import elastic_matching
from adaface.distill.mixing import mixed_contexts, same_contexts
from adaface.distill.models import FrozenModels
from adaface.distill.plan import BatchPlan, IterationPlan, Row
from adaface.distill.stage import Stage
from adaface.distill.stage1 import student_core, vectors_of_core
from adaface.distill.subject_prompts import SubjectPrompts
from adaface.distill.teacher_filter import choose
from adaface.distill.weights import cross_layer_weights, layer_weights
from adaface.encoder.model import AdaFaceEncoder

# Guidance of the pictures that the filter looks at (D: shared_step).
_SUBJECT_GUIDANCE, _TEACHER_GUIDANCE = 5.0, 6.0

Numbers = dict[str, Tensor]  # for the log, without gradient


class Compositional:
    """What compositional batches need besides the encoder.

    Args:
        anchor: the encoder at the beginning of the run, frozen.
        clip: judges the candidates; None: the first one is taken.
    """

    def __init__(
        self,
        models: FrozenModels,
        anchor: AdaFaceEncoder,
        prompts: SubjectPrompts,
        compositions: Compositions,
        clip: ClipScore | None,
    ) -> None:
        self.models, self.anchor, self.prompts, self.clip = models, anchor, prompts, clip
        self.compositions = compositions
        self.places = loss_places(models.unet)
        self.layers = len(cross_attentions(models.unet))

    @cached_property
    def nothing(self) -> Tensor:
        """Text states (1, T, D) of the empty prompt, float32 without gradient."""
        with torch.no_grad():
            return self.prompts.states(self.prompts.empty, None, None, None).float()


def composition_loss(
    own: Compositional,
    encoder: AdaFaceEncoder,
    plan: IterationPlan,
    batch: BatchPlan,
    rows: Sequence[Row],
    faces: Faces,
    stage: Stage,
) -> tuple[Tensor, Numbers]:
    """Loss of one batch of kind "compositional": G compositions, one for each row.

    The prompts' delta counts always; the UNet's activations where the teacher filter finds a start to learn from.
    """
    texts = draw_prompts(own.prompts, plan, batch, rows, faces.person_types, own.compositions)
    core = student_core(encoder, plan, batch, rows, faces.ids)
    current = vectors_of_core(encoder, plan, batch, rows, core)
    with torch.no_grad():
        frozen = vectors_of_core(own.anchor, plan, batch, rows, core)
    single = stage.anchor * frozen + (1 - stage.anchor) * current
    states = four_states(
        own.prompts, texts, single, current, batch.clip_skip, background_vectors(encoder, faces.around)
    )
    terms: dict[str, Tensor] = {}
    if stage.losses.asks_for("prompt_delta"):
        terms["prompt_delta"] = delta_of(states)
    numbers: Numbers = {name: value.detach().mean() for name, value in terms.items()}
    loss = stage.losses.total(terms).mean() if terms else single.sum() * 0

    if not stage.losses.looks_inside:
        return loss, numbers  # nobody would look at the starts

    chosen, teachable = _start_to_learn_from(own, plan, batch, rows, faces, stage, texts, states)
    numbers["teachable"] = teachable.float().mean()
    if teachable.any():
        rest = _unet_terms(own, batch, stage, states, chosen, teachable)
        numbers |= {name: value.detach().mean() for name, value in rest.items()}
        # a mean over all compositions: those that teach nothing count as 0
        loss = loss + stage.losses.total(rest).sum() / len(rows)
    return loss, numbers


class _Start:
    """Chosen starts: `x_t` (G, 4, h, w), `t` (G,), `foreground` (G, 1, h, w) the person in them, `from_person` (G,)."""

    def __init__(self, x_t: Tensor, t: Tensor, foreground: Tensor, from_person: Tensor) -> None:
        self.x_t, self.t, self.foreground, self.from_person = x_t, t, foreground, from_person

    def select(self, rows: Tensor) -> _Start:
        return _Start(self.x_t[rows], self.t[rows], self.foreground[rows], self.from_person[rows])


def _starts(
    own: Compositional, plan: IterationPlan, batch: BatchPlan, rows: Sequence[Row], faces: Faces, stage: Stage
) -> list[_Start]:
    """The candidates, each for all G compositions: the same size of the person, other noise, other timesteps."""
    schedule = own.models.schedule
    foreground = faces.has_mask.to(faces.latents)[:, None, None, None]
    if faces.foreground is not None:
        foreground = foreground * faces.foreground
    else:
        foreground = torch.zeros_like(faces.latents[:, :1])  # nobody knows where the person is
    draw = draw_start(foreground, plan.generators(batch, rows, "start"), progress=batch.progress, settings=stage.start)
    made = []
    for number in range(stage.filter.starts if own.clip is not None else 1):
        generators = plan.generators(batch, rows, f"candidate {number}")
        x_start, mask = start_from_person(faces.latents, foreground, draw, generators)
        t = integers(generators, batch.low, schedule.timesteps).to(own.models.device)
        noise = normal(generators, x_start.shape[1:], device=own.models.device)
        made.append(_Start(schedule.q_sample(x_start, t, noise), t, mask, foreground.flatten(1).any(1)))
    return made


@torch.no_grad()
def _start_to_learn_from(
    own: Compositional,
    plan: IterationPlan,
    batch: BatchPlan,
    rows: Sequence[Row],
    faces: Faces,
    stage: Stage,
    texts: FourPrompts,
    states: FourStates,
) -> tuple[_Start, Tensor]:
    """The best candidate of each composition, and (G,) bool whether it teaches anything."""
    candidates = _starts(own, plan, batch, rows, faces, stage)
    if own.clip is None:
        return candidates[0], torch.ones(len(rows), dtype=torch.bool, device=own.models.device)
    # all at once, as all of a composition's pictures are judged by one text
    pictures = torch.cat([_one_step_pictures(own, batch, stage, states, start) for start in candidates])
    found = own.clip(pictures, texts.class_texts * (2 * len(candidates))).view(len(candidates), 2, len(rows))
    choice = choose(found[:, 0].T, found[:, 1].T, stage.filter)
    best = choice.best.to(own.models.device)

    def of_best(name: str) -> Tensor:
        stacked = torch.stack([getattr(start, name) for start in candidates])
        return stacked[best, torch.arange(len(rows), device=own.models.device)]

    picked = _Start(*(of_best(name) for name in ("x_t", "t", "foreground", "from_person")))
    return picked, choice.any.to(own.models.device)


def _one_step_pictures(
    own: Compositional, batch: BatchPlan, stage: Stage, states: FourStates, start: _Start
) -> Tensor:
    """(2G, 3, H, W) in -1..1: what student, then teacher, make of a start in one guided step."""
    models = own.models
    subject = same_contexts(states.composed, own.layers)
    teacher = _teacher_contexts(own, batch, stage, states.composed, states.class_composed, states.slots, start)
    nothing = same_contexts(own.nothing, own.layers).expand(len(subject), -1, -1, -1, -1)
    with layer_contexts(models.unet):
        contexts = torch.cat([nothing, subject, teacher])
        without, mine, theirs = models.predict(models.unet, contexts)(
            start.x_t.repeat(3, 1, 1, 1), start.t.repeat(3)
        ).chunk(3)
    guided = torch.cat(
        [
            without + _SUBJECT_GUIDANCE * (mine - without),
            without + _TEACHER_GUIDANCE * (theirs - without),
        ]
    )
    latents = models.schedule.x_start_of(start.x_t.repeat(2, 1, 1, 1), start.t.repeat(2), guided)
    return models.decode(latents)


def _teacher_contexts(
    own: Compositional, batch: BatchPlan, stage: Stage, subject: Tensor, of_class: Tensor, slots: Tensor, start: _Start
) -> Tensor:
    return mixed_contexts(
        subject,
        of_class,
        slots,
        start.t / own.models.schedule.timesteps,
        layers=own.layers,
        first=own.places[0].index,
        progress=batch.progress,
        from_person=start.from_person,
        settings=stage.mix,
    )


def _unet_terms(
    own: Compositional,
    batch: BatchPlan,
    stage: Stage,
    states: FourStates,
    start: _Start,
    teachable: Tensor,
) -> dict[str, Tensor]:
    """The terms (G',) of the G' teachable compositions that need passes of the UNet."""
    wanted = stage.losses.looks_inside
    rows = teachable.nonzero()[:, 0]
    start = start.select(rows)
    states = states.select(rows)
    slots, around = states.slots, states.around
    # From here on rows are four blocks of G', in the order that the losses know: ss, sc, ms, mc.
    contexts = [
        same_contexts(states.single, own.layers),  # subject alone
        same_contexts(states.composed, own.layers),  # subject in the composition
        _teacher_contexts(own, batch, stage, states.single, states.class_single, slots, start),  # teacher alone
        _teacher_contexts(own, batch, stage, states.composed, states.class_composed, slots, start),  # and composed
    ]
    unet = own.models.unet
    with layer_contexts(unet), capture(unet, own.places) as captured:
        own.models.predict(unet, torch.cat(contexts))(start.x_t.repeat(4, 1, 1, 1), start.t.repeat(4))
    by_layer = layer_weights(own.places)
    scores = {name: found.scores(slots.repeat(4, 1).float()) for name, found in captured.items()}
    features = {name: found.features for name, found in captured.items()}
    terms: dict[str, Tensor] = {}
    if "elastic_matching" in wanted:
        queries = {name: found.queries() for name, found in captured.items()}
        terms |= elastic_matching(queries, features, scores, start.foreground, by_layer)
    if "deltas" in wanted:
        name = "feature_delta_normalised" if batch.normalise else "feature_delta"
        terms[name] = feature_delta(features, scores, by_layer, normalise=batch.normalise)
        terms["attention_delta"] = attention_delta(scores, by_layer)
        terms["attention_norm"] = attention_norm(scores, by_layer)
    if "cross_layer" in wanted:
        # of the subject's two blocks, ss and sc; the teacher's prompts are looked at no further
        subject = {name: score[: 2 * len(rows)] for name, score in scores.items()}
        behind = None
        if around is not None:
            behind = {
                name: found.scores(around.repeat(4, 1).float())[: 2 * len(rows)] for name, found in captured.items()
            }
        order = [place.name for place in own.places]
        both = cross_layer_terms(order, cross_layer_weights(own.places), subject, behind)
        terms |= {name: value.view(2, -1).mean(0) for name, value in both.items()}
    return terms
