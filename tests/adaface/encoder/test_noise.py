"""Noise in units of a tensor's own spread, and scaled gradients."""

from __future__ import annotations

import pytest
import torch

from adaface.encoder.gradient_scale import scale_gradient
from adaface.encoder.noise import add_noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_level_counts_in_standard_deviations_of_the_rows():
    x = 3 * torch.randn(200, 100, generator=seeded())
    noise = add_noise(x, 0.1, generator=seeded(1)) - x
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    absolute = add_noise(x, 0.1, relative=False, generator=seeded(1)) - x
    torch.testing.assert_close(absolute * (x.std(dim=-1).mean()), noise)


def test_the_spread_is_the_mean_over_rows_and_not_that_of_the_whole():
    """Two constant rows vary by nothing, though the tensor does."""
    x = torch.tensor([[1.0] * 8, [5.0] * 8])
    assert torch.equal(add_noise(x, 0.5, generator=seeded()), x)


def test_lengths_can_be_kept():
    x = torch.randn(5, 7, 20, generator=seeded())
    noisy = add_noise(x, 0.4, keep_norm=True, generator=seeded(1))
    torch.testing.assert_close(noisy.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(noisy, x, atol=0.05)


def test_no_noise_is_the_tensor_itself_and_draws_nothing():
    x, generator = torch.randn(3, 4), seeded()
    before = generator.get_state()
    assert add_noise(x, 0, generator=generator) is x
    assert torch.equal(generator.get_state(), before)


def test_dtype_stays_and_the_generator_decides():
    x = torch.randn(3, 64, generator=seeded()).half()
    one, two, other = (add_noise(x, 0.1, generator=seeded(seed)) for seed in (1, 1, 2))
    assert one.dtype == torch.float16 and torch.equal(one, two) and not torch.equal(one, other)


def test_zero_rows_stay_finite():
    assert torch.equal(add_noise(torch.zeros(2, 8), 0.1, keep_norm=True), torch.zeros(2, 8))


def test_the_spread_passes_no_gradient():
    x = torch.randn(4, 6, requires_grad=True)
    add_noise(x, 0.3).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(4, 6))


def test_negative_levels_and_factors_are_refused():
    with pytest.raises(ValueError, match="noise level must be 0 or more"):
        add_noise(torch.zeros(1, 2), -0.1)
    with pytest.raises(ValueError, match="scaled by 0 or more"):
        scale_gradient(torch.zeros(1), -1)


def test_a_factor_of_zero_cuts_the_gradient_off():
    x = torch.randn(3, requires_grad=True)
    assert not scale_gradient(x, 0).requires_grad
    assert scale_gradient(x, 1) is x


@pytest.mark.parametrize("factor", [0.4, 5.0])
def test_only_the_gradient_is_scaled(factor):
    x = torch.randn(3, requires_grad=True)
    out = scale_gradient(x, factor)
    assert torch.equal(out, x)
    out.square().sum().backward()
    torch.testing.assert_close(x.grad, factor * 2 * x.detach())
