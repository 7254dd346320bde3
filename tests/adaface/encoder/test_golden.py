"""Every golden case of the encoder, within its tolerance: the numbers of the original's own code."""

from __future__ import annotations

import pytest

from tests.adaface.encoder.golden_table import CASES


@pytest.mark.parametrize("case", CASES)
def test_the_originals_numbers(case, shared):
    checks = list(CASES[case](shared / "golden"))
    wrong = [
        f"{check.name}: {check.error:.2e} > {check.tolerance:g}"
        for check in checks
        if not check.error <= check.tolerance
    ]
    assert checks and not wrong, "\n".join(wrong)
