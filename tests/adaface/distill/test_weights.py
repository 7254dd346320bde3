from __future__ import annotations

import math

import pytest
import torch

from adaface.distill.weights import FAMILIES, LossWeights, dynamic_scale


def test_the_defaults_are_what_the_originals_settings_amount_to():
    """The original's formula, with a different number for every loss."""
    losses = {name: torch.tensor([0.1 + 0.03 * k]) for k, name in enumerate(n for f in FAMILIES.values() for n in f)}
    scale = {name: value.item() for name, value in losses.items()}
    elastic = scale["map_alignment"] + scale["foreground_match"]
    elastic += scale["background_match"] * min(max(10 * scale["background_match"], 2), 6)
    elastic += 0.02 * (scale["subject_suppression"] + scale["teacher_suppression"])
    features = 0.5 * scale["feature_delta"] + 2.5 * scale["feature_delta_normalised"]
    deltas = features + 0.1 * scale["attention_delta"] + scale["attention_norm"]
    regions = 0.2 * scale["complementary"] + 0.05 * scale["subject_outside"]
    regions += 0.1 * scale["background_inside"] + 0.05 * scale["contrast"]
    neighbours = 0.2 * scale["cross_layer_subject"] + 0.06 * scale["cross_layer_background"]
    expected = scale["reconstruction"] + 1e-3 * 0.5 * elastic + 1e-4 * 0.5 * deltas
    expected += 2e-4 * 0.5 * 0.2 * scale["prompt_delta"] + 2e-4 * regions + 5e-5 * neighbours
    assert LossWeights().total(losses).item() == pytest.approx(expected, rel=1e-6)


def test_the_factor_of_the_background_match_has_no_gradient():
    loss = torch.tensor([0.33], requires_grad=True)
    LossWeights(background_match=1.0).total({"background_match": loss}).backward()
    assert loss.grad is not None and loss.grad.item() == pytest.approx(3.3)
    fixed = LossWeights(background_match=1.0, background_match_range=(1.0, 1.0))
    assert fixed.total({"background_match": loss}).item() == pytest.approx(0.33)
    assert dynamic_scale(torch.tensor([0.0, 0.3, 9.0]), 0.2, 2, 6).tolist() == pytest.approx([2, 3, 6])


def test_images_are_weighted_apart():
    terms = {"reconstruction": torch.tensor([1.0, 3.0]), "background_match": torch.tensor([0.1, 0.5])}
    expected = [1 + 5e-4 * 0.1 * 2, 3 + 5e-4 * 0.5 * 5]
    assert LossWeights().total(terms).tolist() == pytest.approx(expected)


def test_a_family_can_be_left_out():
    weights = LossWeights().without("elastic_matching", "deltas")
    assert not weights.asks_for("elastic_matching") and not weights.asks_for("deltas")
    assert weights.asks_for("cross_layer") and weights.prompt_delta == LossWeights().prompt_delta
    with pytest.raises(ValueError, match="no family of losses called elastic"):
        LossWeights().without("elastic")


def test_every_term_has_a_weight_and_belongs_to_one_family():
    names = [name for family in FAMILIES.values() for name in family]
    assert len(names) == len(set(names)) and all(hasattr(LossWeights(), name) for name in names)


@pytest.mark.parametrize("terms", [{}, {"reconstruction": torch.zeros(1), "typo": torch.zeros(1)}])
def test_unknown_terms_are_refused(terms):
    with pytest.raises(ValueError, match="known are reconstruction"):
        LossWeights().total(terms)


def test_wrong_weights_are_all_named():
    with pytest.raises(ValueError, match=r"contrast .*background_match_range"):
        LossWeights(contrast=math.nan, background_match_range=(3.0, 2.0))
