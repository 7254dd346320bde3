"""Every golden case of the losses, values and gradients: the numbers of the original's own code."""

from __future__ import annotations

import pytest

from tests.adaface.distill.golden_losses import (
    ACTIVATIONS,
    ENTRIES,
    FUNCTIONS,
    LEFT_OUT,
    TABLES,
    TOLERANCE,
    errors,
    filter_rows,
    scale_errors,
)
from tests.adaface.encoder.golden_files import Golden


@pytest.mark.parametrize("name", ENTRIES)
def test_the_originals_numbers(name, shared):
    file, run = ENTRIES[name]
    found = list(errors(Golden(shared / "golden", file), name, run))
    wrong = [f"{error.tensor}: {error.error:.2e}" for error in found if not error.error <= TOLERANCE]
    assert found and not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", [FUNCTIONS, ACTIVATIONS])
def test_nothing_is_forgotten(file, shared):
    compared = {name for name, entry in ENTRIES.items() if entry.file == file}
    assert compared | LEFT_OUT[file] | TABLES[file] == set(Golden(shared / "golden", file).entry["entries"])


def test_a_gradient_that_is_stored_is_compared(shared):
    golden = Golden(shared / "golden", ACTIVATIONS)
    gradients = [
        error.tensor
        for error in errors(golden, "comp_preserve", ENTRIES["comp_preserve"].run)
        if "grad" in error.tensor
    ]
    assert sorted(gradients) == sorted(
        f"gradient of {kind}{layer}" for kind in ("q", "feat", "attn") for layer in (7, 12, 16, 19)
    )


def test_the_factor_that_follows_a_loss(shared):
    found = list(scale_errors(shared / "golden"))
    assert len(found) == 10 and max(found) < 1e-7


def test_the_choice_of_the_start(shared):
    rows = list(filter_rows(shared / "golden"))
    assert len(rows) == 8
    for teachable, best, wanted_teachable, wanted_best in rows:
        assert (teachable, best) == (wanted_teachable, wanted_best)
