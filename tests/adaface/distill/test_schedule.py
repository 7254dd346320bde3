"""The learning rate over a run."""

from __future__ import annotations

from itertools import pairwise

import pytest

from adaface.distill.anneal import annealed, around
from adaface.distill.schedule import ScheduleSettings, original_factor, rate_factor


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_it_rises_evenly_and_falls_to_the_floor(shape):
    settings = ScheduleSettings(warmup=10, floor=0.1, shape=shape)
    factors = [rate_factor(step, 110, settings) for step in range(110)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == pytest.approx(1) and factors[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert rate_factor(500, 110, settings) == pytest.approx(0.1)
    middle = factors[10 + 49]
    assert middle == pytest.approx(0.55, abs=0.02)
    early = factors[10 + 10]
    assert early == pytest.approx(0.909 if shape == "linear" else 0.978, abs=0.003)


def test_it_is_never_zero():
    """Prodigy takes no learning rate of 0."""
    for settings in (ScheduleSettings(warmup=0, floor=0.0), ScheduleSettings(warmup=5, floor=0.0)):
        assert all(rate_factor(step, 20, settings) > 0 for step in range(30))
    assert rate_factor(0, 1, ScheduleSettings(warmup=0)) == pytest.approx(0.1)
    assert rate_factor(3, 2, ScheduleSettings(warmup=10)) == pytest.approx(0.4)


def test_the_originals_run_ends_half_way_down():
    settings = ScheduleSettings(warmup=600, shape="original")
    assert [rate_factor(step, 60_000, settings) for step in (0, 599, 600)] == [1.0, 1.0, 1.0]
    assert rate_factor(60_000, 60_000, settings) == pytest.approx(0.548, abs=1e-3)
    assert original_factor(60_000, 60_000, 600) == pytest.approx(1 / 11)


def test_settings_name_everything_that_is_wrong():
    with pytest.raises(ValueError, match=r"warmup .*floor .*shape must be one of linear, cosine, original"):
        ScheduleSettings(warmup=-1, floor=2.0, shape="steps")  # type: ignore[arg-type]


def test_annealed_values():
    assert [annealed(progress, 0.4, 0.2) for progress in (0, 0.5, 1, 1.5)] == pytest.approx([0.4, 0.3, 0.2, 0.2])
    assert [around(0.5, share) for share in (0, 0.5, 1)] == pytest.approx([0.4, 0.5, 0.6])
    assert around(0.95, 1.0) == 1.0
