"""The tail behind the sixteen vectors, kept or replaced."""

from __future__ import annotations

import pytest
import torch

from adaface.encoder.prompt_kinds import KINDS, as_kind

STATES = torch.arange(77.0)[None, :, None].expand(2, -1, 3)
PADS = -torch.arange(77.0)[:, None].expand(-1, 3)


def replaced(kind, length=77, slot=4):
    """Places whose state is not the prompt's own."""
    out = as_kind(STATES[:, :length], PADS, kind, slot=slot)[0, :, 0]
    return [place for place in range(len(out)) if out[place] != place]


def test_which_places_become_pads():
    assert replaced("full") == []
    assert replaced("full_half_pad") == list(range(22, 49))
    assert replaced("full_pad") == list(range(22, 76))
    out = as_kind(STATES, PADS, "full_pad")
    assert torch.equal(out[:, 22:76], PADS[22:76].expand(2, -1, -1)) and torch.equal(out[:, 76], STATES[:, 76])


def test_two_pads_and_zeros():
    out = as_kind(STATES, PADS, "full_zeroed_extra")[0, :, 0]
    assert out[22:24].tolist() == [-22, -23] and out[24:76].abs().max() == 0 and out[76] == 76
    assert torch.equal(out[:22], STATES[0, :22, 0])


def test_the_tail_left_out():
    out = as_kind(STATES, PADS, "b_core_e")
    assert out.shape == (2, 23, 3) and out[0, :, 0].tolist() == [*range(22), 76]


def test_short_prompts():
    assert replaced("full_half_pad", 22) == replaced("full_half_pad", 24) == replaced("full_pad", 23) == []
    assert replaced("full_half_pad", 25) == [22]
    assert as_kind(STATES[:, :23], PADS, "b_core_e").shape == (2, 23, 3)


@pytest.mark.parametrize(("kind", "length"), [("full_pad", 22), ("b_core_e", 22), ("full_zeroed_extra", 24)])
def test_too_short_prompts_are_refused(kind, length):
    with pytest.raises(ValueError, match=f"{kind} needs a prompt of {length + 1} tokens or more, not {length}"):
        as_kind(STATES[:, :length], PADS, kind)
    as_kind(STATES[:, : length + 1], PADS, kind)


def test_another_slot_moves_the_tail():
    assert replaced("full_pad", slot=6) == list(range(24, 76))


@pytest.mark.parametrize("kind", KINDS)
def test_the_vectors_and_their_dtype_stay(kind):
    out = as_kind(STATES.half(), PADS, kind)
    assert out.dtype == torch.float16 and torch.equal(out[:, :22], STATES[:, :22].half())


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match="no kind 'core', only full, full_half_pad"):
        as_kind(STATES, PADS, "core")
