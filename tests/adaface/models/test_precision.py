"""Which products are chosen, and that they are what networks then multiply in."""

import pytest
import torch

from adaface.models.precision import autocast, has_bf16, products


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_is_asked_for_is_taken_on_any_hardware(asked: str) -> None:
    assert products(asked, "cpu") == asked


@pytest.mark.parametrize(("amx", "avx512", "chosen"), [(0, 0, "fp32"), (1, 0, "bf16"), (0, 1, "bf16")])
def test_auto_is_what_the_processor_is_good_at(
    amx: int, avx512: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx512))
    assert has_bf16("cpu") == (chosen == "bf16")
    assert products("auto", "cpu") == chosen


@pytest.mark.parametrize(("asked", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_context_is_of_that_precision(asked: str, dtype: torch.dtype) -> None:
    with autocast("cpu", asked):
        assert torch.nn.Linear(2, 3)(torch.ones(1, 2)).dtype == dtype
