"""Compositional and reconstruction batches: which terms they have, what is learned from, and what is left as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from adaface.distill.background import BackgroundFeatures
from adaface.distill.mixing import MixSettings
from adaface.distill.stage import Stage
from adaface.distill.task import DistillTask
from adaface.distill.weights import FAMILIES, LossWeights
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.test_stage1 import loss_of, seen_by
from tests.adaface.distill.tiny_steps import SEED, samples, stage_of, task_of

CLIP = "package://adaface.miniature/weights/clip"
PORTRAITS = {"background_compositional": 0.0, "background_reconstruction": 0.0, "portrait": 1.0}
NOTHING = LossWeights().without("elastic_matching", "deltas", "prompt_delta", "cross_layer")
IN_EVERY_LAYER = {*FAMILIES["elastic_matching"], "attention_delta", "attention_norm", "cross_layer_subject"}


def stage2(kind: str = "compositional", **changes: Any) -> Stage:
    return stage_of(kind, plan=PORTRAITS, **changes)


def judged(*advantages: float | Sequence[float], cosine: float = 0.5):
    """A judge by whom the teacher's pictures have this cosine, and the student's less by an advantage, one for each
    candidate (and composition), whatever they see."""

    def clip(pictures: Tensor, texts: Sequence[str]) -> Tensor:
        assert len(pictures) == len(texts) and float(pictures.abs().max()) <= 1
        groups = len(texts) // (2 * len(advantages))
        assert list(texts) == list(texts[:groups]) * (2 * len(advantages)), "all are judged by the same texts"
        behind = torch.tensor([each if isinstance(each, Sequence) else [each] * groups for each in advantages])
        return torch.stack([cosine - behind, torch.full_like(behind, cosine)], dim=1).flatten()

    return clip


class Seen:
    """A judge that keeps what it was shown."""

    def __init__(self) -> None:
        self.pictures: list[Tensor] = []

    def __call__(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        self.pictures.append(pictures)
        return torch.linspace(0.3, 0.5, len(texts))


def test_a_composition_has_all_terms(tiny: Tiny) -> None:
    task = task_of(tiny, stage2())
    for normalise, name in ((False, "feature_delta"), (True, "feature_delta_normalised")):
        loss, numbers = loss_of(task, samples(0, 4), normalise=normalise)
        assert numbers.keys() == IN_EVERY_LAYER | {"prompt_delta", name, "teachable"}
        assert all(torch.isfinite(value) and not value.requires_grad for value in numbers.values())
        assert float(numbers["teachable"]) == 1, "without a judge everything is learned from"
        assert loss.requires_grad and torch.isfinite(loss)


def test_the_loss_is_the_weighted_sum_of_its_terms(tiny: Tiny) -> None:
    task = task_of(tiny, stage2())
    loss, numbers = loss_of(task, samples(0, 2))
    # one composition: means are its values
    terms = {name: value[None] for name, value in numbers.items() if name != "teachable"}
    torch.testing.assert_close(loss.detach(), LossWeights().total(terms).sum())


@pytest.mark.parametrize("family", ["elastic_matching", "deltas", "prompt_delta", "cross_layer"])
def test_a_family_that_does_not_count_is_not_computed(tiny: Tiny, family: str) -> None:
    task = task_of(tiny, stage2(losses=LossWeights().without(family)))
    _, numbers = loss_of(task, samples(0, 2))
    whole = IN_EVERY_LAYER | {"prompt_delta", "feature_delta", "feature_delta_normalised"}
    assert numbers.keys() - {"teachable"} <= whole - set(FAMILIES[family])
    assert len(numbers) > 2


def test_where_nothing_counts_there_is_still_a_step(tiny: Tiny) -> None:
    """And no starts are looked for: that takes passes of UNet, VAE and CLIP."""
    task = task_of(tiny, stage2(losses=NOTHING), clip=judged(0.1, 0.2))
    with seen_by(tiny.models.unet) as calls:
        loss, numbers = loss_of(task, samples(0, 2))
    loss.backward()
    assert float(loss.detach()) == 0 and not numbers and not calls
    assert all(p.grad is not None for p in task.encoder.trainable_parameters())


def test_gradients_reach_the_encoder_and_nothing_else(tiny: Tiny) -> None:
    task = task_of(tiny, stage2())
    loss_of(task, samples(0, 2))[0].backward()
    models = tiny.models
    for network in (models.unet, models.text, models.vae, models.teacher, task.encoder.teacher):
        assert all(parameter.grad is None for parameter in network.parameters())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in task.encoder.trainable_parameters())


def test_the_unet_is_left_as_it_was(tiny: Tiny) -> None:
    unet = tiny.models.unet
    before = {name: id(processor) for name, processor in unet.attn_processors.items()}
    loss_of(task_of(tiny, stage2()), samples(0, 2))
    assert {name: id(processor) for name, processor in unet.attn_processors.items()} == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())


def test_four_passes_have_the_same_start(tiny: Tiny) -> None:
    task = task_of(tiny, stage2())
    with seen_by(tiny.models.unet) as calls:
        loss_of(task, samples(0, 4))
    ((x, t),) = calls
    blocks, times = x.chunk(4), t.chunk(4)
    assert len(x) == 4 * 2, "subject and teacher, alone and in the composition, of two groups"
    assert all(torch.equal(block, blocks[0]) for block in blocks) and all(
        torch.equal(each, times[0]) for each in times
    )
    assert int(t.min()) >= task.stage.plan.compositional_low
    assert not torch.equal(blocks[0][0], blocks[0][1])


def test_every_sample_of_a_group_can_be_in_a_composition(tiny: Tiny) -> None:
    """Their mean is that of batches with one each."""
    several = stage_of("compositional", plan={**PORTRAITS, "batch": 4, "compositions": 4})
    single = stage_of("compositional", plan={**PORTRAITS, "batch": 1})
    whole, _ = loss_of(task_of(tiny, several), samples(0, 4))
    parts = [loss_of(task_of(tiny, single), samples(first, 1), first)[0] for first in range(4)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-5, atol=0)


# The teacher filter


def test_what_the_teacher_cannot_do_better_is_not_learned(tiny: Tiny) -> None:
    for clip in (judged(-0.1, 0.001), judged(0.1, 0.1, cosine=0.1)):
        task = task_of(tiny, stage2(), clip=clip)
        with seen_by(tiny.models.unet) as calls:
            loss, numbers = loss_of(task, samples(0, 2))
        assert numbers.keys() == {"prompt_delta", "teachable"} and float(numbers["teachable"]) == 0
        assert len(calls) == 2, "one pass for each candidate"
        torch.testing.assert_close(loss.detach(), task.stage.losses.prompt_delta * numbers["prompt_delta"])
        loss.backward()
        assert all(p.grad is not None for p in task.encoder.trainable_parameters())


@pytest.mark.parametrize(("advantages", "best"), [((0.1, 0.2), 1), ((0.2, 0.1), 0), ((-0.2, 0.1), 1)])
def test_the_start_of_the_largest_advantage_is_taken(tiny: Tiny, advantages: tuple[float, float], best: int) -> None:
    task = task_of(tiny, stage2(), clip=judged(*advantages))
    with seen_by(tiny.models.unet) as calls:
        _, numbers = loss_of(task, samples(0, 2))
    candidates = [x[:1] for x, _ in calls[:2]]
    assert not torch.equal(*candidates)
    assert torch.equal(calls[2][0][:1], candidates[best]) and float(numbers["teachable"]) == 1


def test_a_composition_that_teaches_nothing_counts_as_zero(tiny: Tiny) -> None:
    """Of two, one is learned from: the loss is half of what it would be alone, besides the prompts' delta."""
    stage = stage2(losses=LossWeights().without("prompt_delta"))
    both, numbers = loss_of(task_of(tiny, stage, clip=judged((0.1, 0.0), (0.0, 0.0))), samples(0, 4))
    alone, _ = loss_of(task_of(tiny, stage, clip=judged(0.1, 0.0)), samples(0, 2))
    assert float(numbers["teachable"]) == 0.5
    torch.testing.assert_close(both, alone / 2, rtol=1e-4, atol=0)


def test_the_judge_sees_the_subjects_pictures_and_then_the_teachers(tiny: Tiny) -> None:
    """Of a guided step each, with guidance 5 and 6 (D: shared_step); a teacher that is told the class alone draws the
    same for everybody."""
    task = task_of(tiny, stage2(mix=MixSettings(subject=0.0)), clip=(judge := Seen()))
    of_unet: list[Tensor] = []
    hook = tiny.models.unet.register_forward_hook(lambda _, __, out: of_unet.append(out[0].detach()))
    someone, other = samples(0, 2), samples(0, 2)
    other["id_embedding"] = samples(7, 2)["id_embedding"]
    other["person_type"] = someone["person_type"]
    try:
        with torch.no_grad(), seen_by(tiny.models.unet) as calls:
            loss_of(task, someone)
            loss_of(task, other)
    finally:
        hook.remove()
    candidates = task.stage.filter.starts
    for person in range(2):
        pictures = judge.pictures[person].unflatten(0, (candidates, 2))
        for number in range(candidates):
            at = person * (candidates + 1) + number  # after the candidates there is the pass that is learned from
            without, subject, teacher = of_unet[at].chunk(3)
            x_t, t = (each.chunk(3)[0] for each in calls[at])
            for place, (with_, guidance) in enumerate(((subject, 5), (teacher, 6))):
                latents = tiny.models.schedule.x_start_of(x_t, t, without + guidance * (with_ - without))
                torch.testing.assert_close(pictures[number, place], tiny.models.decode(latents)[0])
    one, two = (each.unflatten(0, (candidates, 2)) for each in judge.pictures)
    assert torch.equal(one[:, 1], two[:, 1]) and not torch.allclose(one[:, 0], two[:, 0])


# The anchor


def test_the_anchor_is_the_encoder_of_the_beginning(tiny: Tiny) -> None:
    """With a share of 1 the plain prompts stay where they were, however the encoder moves."""
    losses = LossWeights(**dict.fromkeys(vars(LossWeights()).keys() - {"background_match_range"}, 0.0))
    only = dataclasses.replace(losses, cross_layer_subject=1.0)
    shares = {}
    for anchor in (1.0, 0.0):
        task = task_of(tiny, stage2(losses=only, anchor=anchor))
        loss, _ = loss_of(task, samples(0, 2))
        loss.backward()
        shares[anchor] = sum(
            float(p.grad.abs().sum()) for p in task.encoder.trainable_parameters() if p.grad is not None
        )
    assert shares[1.0] > 0 and shares[1.0] != shares[0.0], "the composition's prompt is always the encoder's"

    def loss_after(moved: float, anchor: float) -> float:
        task = task_of(tiny, stage2(losses=only, anchor=anchor))
        of_anchor = dict(task._composer[0].anchor.named_parameters())
        with torch.no_grad():
            for name, parameter in task.encoder.named_parameters():
                if parameter.requires_grad:
                    of_anchor[name].add_(moved)
        return float(loss_of(task, samples(0, 2))[0].detach())

    assert loss_after(0.05, 0.0) == loss_after(0.0, 0.0), "the anchor's share is that of the frozen encoder"
    assert loss_after(0.05, 1.0) != loss_after(0.0, 1.0)
    assert stage2().anchor == 0.9
    task = task_of(tiny, stage2())
    anchor_before = {name: tensor.clone() for name, tensor in task._composer[0].anchor.state_dict().items()}
    with torch.no_grad():
        for parameter in task.encoder.trainable_parameters():
            parameter.add_(0.1)
    assert all(torch.equal(t, anchor_before[name]) for name, t in task._composer[0].anchor.state_dict().items())


# Reconstruction


def test_reconstruction_with_and_without_background(tiny: Tiny) -> None:
    features = BackgroundFeatures(CLIP)
    encoder = tiny.encoder(background=features, unet_layers=4)
    task = DistillTask(tiny.models, encoder, stage_of("reconstruction"), seed=SEED, background=features)
    for background in (False, True):
        encoder.zero_grad(set_to_none=True)
        loss, numbers = loss_of(task, samples(0, 2), background=background)
        loss.backward()
        assert torch.isfinite(loss)
        of_background = {"complementary", "background_inside", "contrast", "cross_layer_background"}
        assert {"recon", "subject_outside", "cross_layer_subject", "prompt_delta"} <= numbers.keys()
        assert of_background <= numbers.keys() if background else not of_background & numbers.keys()
        generator = [p for p in encoder.background.parameters() if p.requires_grad]
        assert all(p.grad is not None for p in generator) == background


@pytest.mark.parametrize(
    ("background", "asked"), [(False, "pixels_without_background"), (True, "pixels_with_background")]
)
def test_what_pixels_behind_the_person_count(tiny: Tiny, background: bool, asked: str) -> None:
    """With a token for them in the prompt one weight, and without it the other: here nobody is in the picture."""
    features = BackgroundFeatures(CLIP)
    nobody = samples(0, 2)
    nobody["person_mask"] = torch.zeros_like(nobody["person_mask"])
    found = {}
    for name in ("pixels_without_background", "pixels_with_background"):
        weights = LossWeights(**{"pixels_without_background": 0.0, "pixels_with_background": 0.0, name: 0.5})
        encoder = tiny.encoder(background=features, unet_layers=4)
        stage = stage_of("reconstruction", losses=weights)
        task = DistillTask(tiny.models, encoder, stage, seed=SEED, background=features)
        found[name] = float(loss_of(task, nobody, background=background)[1]["recon"])
    assert [name for name, value in found.items() if value > 0] == [asked]


@pytest.mark.parametrize("kind", ["reconstruction", "compositional"])
def test_a_sample_sees_the_same_noise_in_another_layout(tiny: Tiny, kind: str) -> None:
    task = task_of(tiny, stage2(kind))
    whole, _ = loss_of(task, samples(0, 4))
    halves = [loss_of(task, samples(first, 2), first)[0] for first in (0, 2)]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole, rtol=1e-5, atol=0)
    assert not torch.allclose(halves[0], halves[1])
