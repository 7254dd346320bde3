"""Which timesteps are trained."""

from __future__ import annotations

import pytest
import torch

from adaface.distill.draws import torch_generator
from adaface.distill.timesteps import draw_timesteps, next_timesteps, range_around, rollout_start, within

DRAWS = 20_000
STREAMS = [torch_generator("timesteps", number) for number in range(DRAWS)]


@pytest.mark.parametrize("low", [0, 950])
def test_kept_ones_are_uniform(low):
    t = draw_timesteps(STREAMS, low=low, keep=True)
    assert t.dtype == torch.int64 and t.shape == (DRAWS,)
    assert t.min() == low and t.max() == 999
    parts = torch.histc(t.float(), bins=10, min=low, max=1000) / DRAWS
    assert (parts - 0.1).abs().max() < 0.01


def test_moved_ones_go_up_by_up_to_three_tenths():
    def streams() -> list[torch.Generator]:
        return [torch_generator(1, number) for number in range(DRAWS)]

    kept, moved = draw_timesteps(streams(), keep=True), draw_timesteps(streams(), keep=False)
    assert (moved >= kept).all() and (moved <= torch.clamp((kept.double() * 1.3).floor(), max=999)).all()
    inside = (kept > 200) & (kept < 700)
    assert (moved / kept)[inside].mean().item() == pytest.approx(1.15, abs=0.005)


def test_every_number_within_is_equally_likely():
    lowest, highest = torch.full((DRAWS,), 3), torch.full((DRAWS,), 6)
    counts = torch.bincount(within(lowest, highest, torch.linspace(0, 1 - 1e-9, DRAWS, dtype=torch.float64)))
    assert counts[:3].sum() == 0 and len(counts) == 7
    assert (counts[3:] - DRAWS / 4).abs().max() <= 1


def test_the_range_stays_in_the_schedule():
    lowest, highest = range_around(torch.tensor([0, 50, 800, 999]), (1.0, 1.3))
    assert lowest.tolist() == [0, 50, 800, 999] and highest.tolist() == [0, 65, 999, 999]
    lowest, highest = range_around(torch.tensor([10, 40]), (0.5, 2.0), timesteps=50)
    assert lowest.tolist() == [5, 20] and highest.tolist() == [20, 49]


@pytest.mark.parametrize(("steps", "first"), [(1, 0), (3, 333), (5, 500), (7, 600)])
def test_long_rollouts_start_high(steps, first):
    assert rollout_start(torch.tensor([0, 999]), steps).tolist() == [first, 999]


@pytest.mark.parametrize(("steps", "low", "high"), [(3, 0.569, 0.748), (5, 0.633, 0.790), (7, 0.667, 0.812)])
def test_the_ladder_goes_down_by_a_share(steps, low, high):
    t = torch.full((2,), 900)
    found = next_timesteps(t, steps, torch.tensor([0.0, 0.999999], dtype=torch.float64)) / 900
    assert found.tolist() == pytest.approx([low, high], abs=2e-3)
