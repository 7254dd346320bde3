"""The numbers of the original's own code for what a training step draws, and for its optimizer."""

from __future__ import annotations

import pytest

from tests.adaface.distill import golden_steps as golden


@pytest.mark.parametrize(
    "case",
    [golden.timesteps, golden.diffusion, golden.rollouts, golden.learning_rates, golden.prodigy],
    ids=lambda case: case.__name__,
)
def test_the_originals_numbers(case, shared):
    if case is golden.prodigy:
        pytest.importorskip("prodigyopt", reason="needs prodigyopt")
    checks = list(case(shared / "golden"))
    wrong = [
        f"{check.name}: {check.error:.2e} > {check.tolerance:g}"
        for check in checks
        if not check.error <= check.tolerance
    ]
    assert checks and not wrong, "\n".join(wrong)
