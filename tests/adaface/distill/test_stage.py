from __future__ import annotations

import pytest

from adaface.distill.stage import Stage, original_stage


def test_the_originals_two_stages() -> None:
    first, second = original_stage(1), original_stage(2)
    assert (first.plan.steps, first.plan.batch, first.plan.compositional_every) == (60_000, 4, 0)
    assert (second.plan.steps, second.plan.batch, second.plan.compositional_every) == (30_000, 3, 3)
    assert (first.optimizer.d_coefficient, second.optimizer.d_coefficient) == (1.0, 0.5)
    assert (first.schedule.warmup, second.schedule.warmup) == (600, 1000)
    assert original_stage(2, batch=6).plan.batch == 6


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="stages 1 and 2"):
        original_stage(3)
    with pytest.raises(ValueError, match="a plan has no bach"):
        original_stage(1, bach=3)
    with pytest.raises(ValueError, match=r"anchor must be a share in 0\.\.1, not 1\.5"):
        Stage(anchor=1.5)
