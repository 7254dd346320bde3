"""Plain reconstruction: batches of kind "reconstruction" in stage 2, which keep the subject what photographs say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from adaface.distill import background
from adaface.distill.background import background_vectors
from adaface.distill.composition_prompts import delta_of, draw_prompts, four_states
from adaface.distill.compositions import Compositions
from adaface.distill.contexts import layer_contexts
from adaface.distill.data import Faces
from adaface.distill.draws import normal
from adaface.distill.features import capture, loss_places
from adaface.distill.losses.attention_regions import attention_regions
from adaface.distill.losses.cross_layer import cross_layer_terms
from adaface.distill.losses.reconstruction import reconstruction
from adaface.distill.models import FrozenModels
from adaface.distill.plan import BatchPlan, IterationPlan, Row
from adaface.distill.stage import Stage
from adaface.distill.stage1 import student_vectors
from adaface.distill.subject_prompts import TOKEN, SubjectPrompts
from adaface.distill.timesteps import draw_timesteps
from adaface.distill.weights import cross_layer_weights, layer_weights
from adaface.encoder.model import AdaFaceEncoder


def reconstruction_loss(
    models: FrozenModels,
    encoder: AdaFaceEncoder,
    prompts: SubjectPrompts,
    plan: IterationPlan,
    batch: BatchPlan,
    rows: Sequence[Row],
    faces: Faces,
    stage: Stage,
    compositions: Compositions,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch, and numbers for the log, without gradient.

    What counts is the noise that was put on a photograph of the subject, on the person.

    Beside it the subject's attention stays on the person, and in the same place in all layers; the background's stays
    off the person, where the batch's prompts have one; and compositions change the prompts as they do the class's.
    """

    def generators(purpose: str) -> list[torch.Generator]:
        return plan.generators(batch, rows, purpose)

    t = draw_timesteps(generators("timesteps"), low=batch.low, keep=batch.keep_timesteps).to(models.device)
    noise = normal(generators("noise"), faces.latents.shape[1:], device=models.device)
    x_t = models.schedule.q_sample(faces.latents, t, noise)
    vectors = student_vectors(encoder, plan, batch, rows, faces.ids)
    behind = background_vectors(encoder, faces.around)
    subject = TOKEN if behind is None else f"{TOKEN} {background.WORDS.format(background.TOKEN)}"
    choosers = [plan.chooser(batch.step, row.slot, "template", batch=batch.number) for row in rows]
    texts = [compositions.templates.draw(chooser).format(subject) for chooser in choosers]
    tokens, slots = prompts.windows(texts)
    around = prompts.background_slots(texts) if behind is not None else None
    both = (around, behind) if around is not None and behind is not None else None
    states = prompts.states(tokens, slots, vectors, batch.clip_skip, both)

    weights = stage.losses
    looks = [name for name in ("attention_regions", "cross_layer") if weights.asks_for(name)]
    places = loss_places(models.unet)
    with layer_contexts(models.unet), capture(models.unet, places if looks else ()) as captured:
        predicted = models.predict(models.unet, states)(x_t, t)
    error = reconstruction(
        predicted,
        noise,
        foreground=faces.foreground,
        valid=faces.valid,
        background_weight=weights.pixels_without_background if behind is None else weights.pixels_with_background,
    )
    terms = {"reconstruction": error}
    scores = {name: found.scores(slots.float()) for name, found in captured.items()}
    scores_around = None
    if around is not None:
        scores_around = {name: found.scores(around.float()) for name, found in captured.items()}
    if "attention_regions" in looks and faces.foreground is not None:
        person = faces.foreground * faces.has_mask.to(faces.foreground)[:, None, None, None]
        terms |= attention_regions(scores, scores_around, person, layer_weights(places))
    if "cross_layer" in looks:
        order = [place.name for place in places]
        terms |= cross_layer_terms(order, cross_layer_weights(places), scores, scores_around)
    if weights.asks_for("prompt_delta"):
        # without the background: its words differ from layer to layer, and every layer's prompts would be read again
        plain = replace(batch, background=False)
        four = draw_prompts(prompts, plan, plain, rows, faces.person_types, compositions)
        terms["prompt_delta"] = delta_of(four_states(prompts, four, vectors, vectors, batch.clip_skip))
    numbers = {name: value.detach().mean() for name, value in terms.items()}
    numbers["recon"] = numbers.pop("reconstruction")
    return weights.total(terms).mean(), numbers
