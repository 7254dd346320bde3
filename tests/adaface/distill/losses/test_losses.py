"""What holds for every loss: images do not see each other, half precision, no loss where there is nothing to lose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from adaface.distill.losses.attention_regions import attention_regions
from adaface.distill.losses.cross_layer import cross_layer
from adaface.distill.losses.deltas import attention_delta, attention_norm, feature_delta
from adaface.distill.losses.elastic_matching import elastic_matching
from adaface.distill.losses.prompt_delta import prompt_delta
from adaface.distill.losses.reconstruction import over_rollout, reconstruction
from tests.adaface.distill.losses.random_activations import HEADS, SIZES, WEIGHTS, Random


def regions(random: Random) -> dict[str, Tensor]:
    return attention_regions(random.maps("s", HEADS), random.maps("b", HEADS), random.mask(), WEIGHTS)


def elastic(random: Random) -> dict[str, Tensor]:
    return elastic_matching(random.maps("q", 6), random.maps("f", 5), random.maps("s", HEADS), random.mask(), WEIGHTS)


def masked(random: Random) -> Tensor:
    predicted, target = random.rows("predicted", 4, 32, 32), random.rows("target", 4, 32, 32)
    return reconstruction(predicted, target, foreground=random.mask(), background_weight=0.1)


# name -> (in groups of four?, loss)
LOSSES: dict[str, tuple[bool, Callable[[Any], Tensor | dict[str, Tensor]]]] = {
    "reconstruction": (False, masked),
    "attention_regions": (False, regions),
    "cross_layer": (False, lambda r: cross_layer(r.maps("s", HEADS), list(SIZES), WEIGHTS)),
    "elastic_matching": (True, elastic),
    "feature_delta": (True, lambda r: feature_delta(r.maps("f", 5), r.maps("s", HEADS), WEIGHTS)),
    "feature_delta_normalised": (
        True,
        lambda r: feature_delta(r.maps("f", 5), r.maps("s", HEADS), WEIGHTS, normalise=True),
    ),
    "attention_delta": (True, lambda r: attention_delta(r.maps("s", HEADS), WEIGHTS)),
    "attention_norm": (True, lambda r: attention_norm(r.maps("s", HEADS), WEIGHTS)),
    "prompt_delta": (True, lambda r: prompt_delta(r.rows("states", 20, 12))),
    "prompt_delta_per_layer": (
        True,
        lambda r: prompt_delta(r.rows("states", 3, 20, 12), torch.ones(r.count, 20)),
    ),
}


def values(name: str, count: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    four, loss = LOSSES[name]
    found = loss(Random(count, four, dtype))
    return found if isinstance(found, dict) else {name: found}


@pytest.mark.parametrize("name", LOSSES)
def test_an_images_loss_does_not_depend_on_its_batch(name):
    """So that the mean over two workers' halves is the mean over the whole."""
    alone, together = values(name, 1), values(name, 3)
    for term, found in together.items():
        assert found.shape == (3,)
        torch.testing.assert_close(found[:1], alone[term], rtol=1e-5, atol=1e-7, msg=f"{name}: {term}")
        assert found.unique().numel() == 3, f"{name}: {term} is the same for different images"


class _Nobody:
    """The shapes of `Random`, without a row."""

    def __init__(self, one: Random) -> None:
        self.one, self.count = one, 0

    def rows(self, name: str, *shape: int) -> Tensor:
        return self.one.rows(name, *shape)[:0]

    def maps(self, name: str, channels: int) -> dict[str, Tensor]:
        return {layer: x[:0] for layer, x in self.one.maps(name, channels).items()}

    def mask(self) -> Tensor:
        return self.one.mask()[:0]


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")  # of means over nothing
@pytest.mark.parametrize("name", LOSSES)
def test_no_images_have_no_losses(name):
    """A batch may have nothing to learn from."""
    four, loss = LOSSES[name]
    found = loss(_Nobody(Random(1, four)))
    assert all(value.shape == (0,) for value in (found.values() if isinstance(found, dict) else [found]))


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_summed_in_float32(name):
    """Two roundings of the inputs away, and not the noise of sums in half precision."""
    for term, found in values(name, 1, torch.bfloat16).items():
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, values(name, 1)[term], rtol=0.1, atol=1e-2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for term, found in values(name, 1).items():
            torch.testing.assert_close(found, values(name, 1)[term], rtol=1e-6, atol=0)


def test_a_subject_that_composes_like_its_teacher_loses_nothing():
    random = Random(2)  # two images, whose rows stand for subject and teacher alike
    alone, composed = random.maps("alone", 5), random.maps("composed", 5)
    features = {layer: torch.cat([alone[layer], composed[layer]] * 2) for layer in SIZES}
    s = {layer: torch.cat([random.rows("s" + layer, HEADS, *size)] * 4) for layer, size in SIZES.items()}
    found = elastic_matching(features, features, s, random.mask(), WEIGHTS)
    assert found["map_alignment"].abs().max() < 1e-6
    assert feature_delta(features, s, WEIGHTS).abs().max() < 1e-6
    assert not attention_norm(s, WEIGHTS).any()
    # the same features, sharpened on one side by the exponent of 2
    assert found["background_match"].max() < 0.1


def test_elastic_matching_without_a_person_is_zero_but_has_a_gradient():
    random = Random(2, four=True)
    features = {layer: x.requires_grad_() for layer, x in random.maps("f", 5).items()}
    mask = random.mask()
    mask[1] = 0
    found = elastic_matching(random.maps("q", 6), features, random.maps("s", HEADS), mask, WEIGHTS)
    for term, value in found.items():
        assert value[1] == 0 and value[0] != 0, term
    sum(value.sum() for value in found.values()).backward()
    assert all(torch.isfinite(x.grad).all() for x in features.values())


def test_elastic_matching_finds_a_person_that_has_moved():
    """The composition is the portrait, moved by four positions: the face is found, and what moved away is not."""
    random = Random(1)
    portrait = random.rows("portrait", 12, 8, 8)
    moved = portrait.roll(4, dims=3)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 0:3] = 1
    queries = {"mid": torch.cat([portrait, moved] * 2) * 8}
    other = random.rows("other", 12, 8, 8)
    # scores favour the subject nowhere
    s = {"mid": torch.zeros(4, HEADS, 8, 8)}
    found = elastic_matching(queries, {"mid": torch.cat([portrait, moved] * 2)}, s, mask, {"mid": 1.0})
    stranger = elastic_matching(queries, {"mid": torch.cat([portrait, other] * 2)}, s, mask, {"mid": 1.0})
    assert found["foreground_match"] < 0.1 < stranger["foreground_match"]


def test_attention_off_the_person_costs_and_attention_on_the_person_does_not():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 2:6] = 1
    on, off = 3 * mask.repeat(1, HEADS, 1, 1), 3 * (1 - mask).repeat(1, HEADS, 1, 1)
    good = attention_regions({"mid": on}, {"mid": off}, mask, {"mid": 1.0}, token_ratio=1)
    bad = attention_regions({"mid": off}, {"mid": on}, mask, {"mid": 1.0}, token_ratio=1)
    assert not any(value.any() for value in good.values())
    assert all(value > 1 for name, value in bad.items() if name != "complementary")
    both = attention_regions({"mid": on}, {"mid": on}, mask, {"mid": 1.0})
    assert both["complementary"].item() == pytest.approx(1) and not bad["complementary"]
    assert set(attention_regions({"mid": on}, None, mask, {"mid": 1.0})) == {"subject_outside"}


def test_the_originals_regions_count_the_other_side_and_the_whole_batch():
    s, mask = {"mid": torch.full((2, HEADS, 8, 8), -1.0)}, torch.zeros(2, 1, 8, 8)
    mask[..., :4] = 1
    ours = attention_regions(s, None, mask, {"mid": 1.0})["subject_outside"]
    theirs = attention_regions(s, None, mask, {"mid": 1.0}, original=True)["subject_outside"]
    # s is -1 everywhere: off the person it exceeds -1 by the margin; on the person the product is 0 and exceeds it by 1.4
    assert ours.tolist() == pytest.approx([0.4, 0.4])
    assert theirs.tolist() == pytest.approx([0.9, 0.9])
    mask[1] = 0
    assert attention_regions(s, None, mask, {"mid": 1.0})["subject_outside"].tolist() == pytest.approx([0.4, 0])


def test_the_same_place_in_neighbouring_layers_costs_nothing():
    blob = torch.zeros(1, HEADS, 8, 8)
    blob[..., 2:4, 2:4] = 1
    elsewhere = blob.roll(3, dims=3)
    same = cross_layer({"down": blob, "mid": blob}, ["down", "mid"], WEIGHTS)
    moved = cross_layer({"down": blob, "mid": elsewhere}, ["down", "mid"], WEIGHTS)
    assert same < 0.05 * WEIGHTS["mid"] and moved > WEIGHTS["mid"]  # not 0: the reference is sharpened
    with pytest.raises(ValueError, match="no two neighbours"):
        cross_layer({"down": blob}, ["down", "mid"], WEIGHTS)


def test_reconstruction_looks_at_the_person_and_not_at_padding():
    random = Random(2)
    predicted, target = random.rows("p", 4, 32, 32).requires_grad_(), random.rows("t", 4, 32, 32)
    mask, valid = random.mask(), torch.ones(2, 1, 32, 32)
    valid[..., :12] = 0
    loss = reconstruction(predicted, target, foreground=mask, valid=valid, background_weight=0.0)
    loss.sum().backward()
    counted = (mask * valid).expand(predicted.shape) > 0
    assert (predicted.grad[counted] != 0).all() and (predicted.grad[~counted] == 0).all()
    expected = (predicted - target).square().detach()[0][counted[0]].mean()
    torch.testing.assert_close(loss[0].detach(), expected, rtol=1e-5, atol=0)


def test_reconstruction_together_is_the_originals_quotient_of_sums():
    random = Random(3)
    predicted, target, mask = random.rows("p", 4, 32, 32), random.rows("t", 4, 32, 32), random.mask()
    apart = reconstruction(predicted, target, foreground=mask)
    together = reconstruction(predicted, target, foreground=mask, together=True)
    areas = mask.flatten(1).sum(1)
    torch.testing.assert_close(together, ((apart * areas).sum() / areas.sum()).expand(3))


def test_a_rollouts_steps_are_summed_over_the_root_of_their_number():
    steps = [torch.tensor([1.0, 2.0])] * 4
    assert over_rollout(steps).tolist() == [2, 4]
