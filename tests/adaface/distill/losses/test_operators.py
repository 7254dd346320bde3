from __future__ import annotations

import pytest
import torch

from adaface.distill.losses.maps import away_from, masked_mean, resized_mask
from adaface.distill.losses.operators import alignment, cosine_loss, delta_alignment, in_float32, orthogonal


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_a_vector_is_its_part_along_another_and_its_part_across_it(random):
    a, b = torch.randn(3, 7, 12, generator=random), torch.randn(3, 7, 12, generator=random)
    across = orthogonal(a, b)
    assert (across * b).sum(-1).abs().max() < 1e-4
    torch.testing.assert_close(across + alignment(a, b) * b, a)


def test_zero_vectors_give_numbers_and_gradients(random):
    a = torch.randn(2, 5, 8, generator=random).requires_grad_()
    zero = torch.zeros(2, 5, 8, requires_grad=True)
    loss = cosine_loss(orthogonal(a, zero), zero, reference_gradient=1).sum() + cosine_loss(zero, a).sum()
    loss.backward()
    assert loss.item() == 4  # a cosine of 0 in both
    assert torch.isfinite(a.grad).all() and torch.isfinite(zero.grad).all()


def test_cosine_of_equal_and_of_opposite_vectors(random):
    x = torch.randn(4, 6, 10, generator=random)
    assert cosine_loss(x, 3 * x, exponent=1).abs().max() < 1e-6
    torch.testing.assert_close(cosine_loss(x, -x, exponent=1), torch.full((4,), 2.0))
    torch.testing.assert_close(cosine_loss(x, x, exponent=1, repel=True), torch.ones(4))
    assert not cosine_loss(x, -x, exponent=1, repel=True).any()


def test_rows_of_weight_zero_change_nothing(random):
    x, reference = torch.randn(2, 6, 10, generator=random), torch.randn(2, 6, 10, generator=random)
    weights = torch.tensor([[1.0, 0.5, 1.0, 0, 0, 0]])
    before = cosine_loss(x, reference, weights=weights)
    x[:, 3:] = 100
    reference[:, 3:] = -3
    torch.testing.assert_close(cosine_loss(x, reference, weights=weights), before)
    expected = (cosine_loss(x[:, :1], reference[:, :1]) + cosine_loss(x[:, 2:3], reference[:, 2:3])) / 2.5
    expected = expected + 0.5 * cosine_loss(x[:, 1:2], reference[:, 1:2]) / 2.5
    torch.testing.assert_close(before, expected)


@pytest.mark.parametrize("share", [0, 0.05, 1])
def test_a_reference_gets_its_share_of_the_gradient(share, random):
    x, reference = torch.randn(3, 4, 9, generator=random), torch.randn(3, 4, 9, generator=random).requires_grad_()
    x.requires_grad_()
    (whole,) = torch.autograd.grad(cosine_loss(x, reference, reference_gradient=1).sum(), reference)
    loss = cosine_loss(x, reference, reference_gradient=share).sum()
    (found,) = torch.autograd.grad(loss, reference, materialize_grads=True, allow_unused=True)
    torch.testing.assert_close(found, share * whole)


def test_what_the_subject_adds_to_its_class_stays_the_same_in_a_composition(random):
    alone, composed, person, stranger = torch.randn(4, 2, 1, 512, generator=random)
    same = delta_alignment(alone + person, composed + person, alone, composed, exponent=1)
    other = delta_alignment(alone + person, composed + stranger, alone, composed, exponent=1)
    assert same.max() < 0.1 and other.min() > 0.8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_in_as_float32_and_autocast_is_off(dtype, random):
    seen = []

    @in_float32
    def product(a, layers, *, b):
        seen.extend([a.dtype, layers["x"].dtype, b.dtype])
        return a @ b

    a, b = torch.randn(4, 32, generator=random).to(dtype), torch.randn(32, 4, generator=random).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = product(a, {"x": a}, b=b)
    assert seen == [torch.float32] * 3 and found.dtype == torch.float32
    torch.testing.assert_close(found, a.float() @ b.float())
    assert product(a.double(), {"x": a}, b=b.double()).dtype == torch.float64  # doubles stay


def test_the_mean_under_a_mask():
    x = torch.tensor([[1.0, 2.0, 30.0], [4.0, 50.0, 60.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert masked_mean(x, mask).item() == pytest.approx(7 / 3)
    assert masked_mean(x, mask, dims=(1,)).flatten().tolist() == [1.5, 4]
    assert masked_mean(x, mask, instances=torch.tensor([0.0, 1.0])).item() == pytest.approx(4 / 3)
    assert masked_mean(x, mask * 0).item() == 0


def test_thin_parts_of_a_mask_stay():
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 13] = 1  # nearest neighbours in steps of 4 jump over this column
    assert (resized_mask(mask, (8, 8))[0, 0, :, 3] == 0.5).all()
    mask = mask.roll(-1, dims=3)  # and bilinear sampling jumps over this one
    assert (resized_mask(mask, (8, 8))[0, 0, :, 3] == 1).all()


def test_away_from_the_subject_weighs_more():
    scores = torch.zeros(1, 2, 8, 8)
    scores[..., 2:5, 2:5] = 4
    weight = away_from(scores.requires_grad_(), (16, 16))
    assert not weight.requires_grad
    assert weight.mean().item() == pytest.approx(1)
    assert weight[0, 0, 7, 7] < weight[0, 0, 0, 0] == weight.max()
