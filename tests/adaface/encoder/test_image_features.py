"""Features of person and background apart."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from adaface.encoder.image_features import image_features, other_side, patch_mask, side_features


@pytest.fixture(scope="module")
def vision():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=32,
                patch_size=8,
            )
        ).eval()  # fmt: skip


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def left_half() -> torch.Tensor:
    mask = torch.zeros(2, 32, 32)
    mask[..., :16] = 1
    return mask


def test_a_mask_covers_its_patches_and_the_class_token(vision):
    mask = patch_mask(vision, left_half())
    assert mask.shape == (2, 17, 1)
    assert mask[0, 1:, 0].view(4, 4).tolist() == [[1, 1, 0, 0]] * 4 and mask[0, 0] == 1
    assert torch.equal(other_side(mask)[:, 1:], 1 - mask[:, 1:]) and other_side(mask)[0, 0] == 1


def test_masks_of_any_size_mean_the_same(vision):
    small = torch.zeros(2, 4, 4)
    small[..., :2] = 1
    assert torch.equal(patch_mask(vision, small).round(), patch_mask(vision, left_half()))


def test_each_side_has_features_on_its_patches_only(vision, pixels):
    person, background = image_features(vision, pixels, left_half())
    inside = patch_mask(vision, left_half())[0, :, 0].bool()
    inside[0] = False
    assert person.shape == background.shape == (2, 17, 16)
    assert (person[:, inside].abs().sum(-1) > 0).all() and background[:, inside].abs().max() == 0
    outside = ~inside
    outside[0] = False
    assert (background[:, outside].abs().sum(-1) > 0).all() and person[:, outside].abs().max() == 0


def test_without_a_mask_all_is_person(vision, pixels):
    person, background = image_features(vision, pixels)
    masked = image_features(vision, pixels, torch.ones(2, 32, 32))
    assert torch.equal(person, masked[0]) and torch.equal(background, masked[1])
    assert background[:, 1:].abs().max() == 0 and background[:, 0].abs().sum() > 0


def test_a_black_picture_has_no_features(vision):
    assert image_features(vision, torch.zeros(1, 3, 32, 32))[0].abs().max() < 1e-6


def test_one_more_on_all_logits_is_nothing(vision, pixels):
    """A mask of almost one everywhere goes through the layers' hooks; one of ones does not."""
    whole = side_features(vision, pixels, torch.ones(2, 17, 1))
    nearly = torch.full((2, 17, 1), 1 - 1e-6)
    torch.testing.assert_close(side_features(vision, pixels, nearly), whole, rtol=0, atol=2e-5)
    assert not any(layer.self_attn._forward_pre_hooks for layer in vision.encoder.layers)


def test_wrong_masks_are_refused(vision, pixels):
    with pytest.raises(ValueError, match=r"a mask must be \(B, h, w\)"):
        image_features(vision, pixels, torch.ones(2, 1, 32, 32))
    with pytest.raises(ValueError, match="2 pictures, but masks for 3"):
        image_features(vision, pixels, torch.ones(3, 32, 32))
