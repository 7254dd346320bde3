"""Streams of random numbers that are named after what they are for."""

from __future__ import annotations

import torch

from adaface.distill.draws import integers, normal, numpy_generator, torch_generator, uniform


def test_a_name_is_a_stream_and_another_name_another():
    names = [(0, 1, "noise"), (0, 1, "time"), (1, 0, "noise"), (0, 11, "noise"), (0, 1, 1, "noise"), (0, "1", "noise")]
    drawn = [torch.randn(8, generator=torch_generator(*name)) for name in names]
    chosen = [numpy_generator(*name).random() for name in names]
    for at, name in enumerate(names):
        assert torch.equal(drawn[at], torch.randn(8, generator=torch_generator(*name)))
        assert chosen[at] == numpy_generator(*name).random()
    assert len({tuple(row.tolist()) for row in drawn}) == len(set(chosen)) == len(names)


def test_neighbouring_streams_are_unrelated():
    """2,000 samples in a row: as even as one stream, and no neighbour like the other."""
    rows = normal([torch_generator(7, step, "noise") for step in range(2000)], (64,))
    assert abs(rows.mean().item()) < 0.01 and abs(rows.std().item() - 1) < 0.01
    beside = torch.nn.functional.cosine_similarity(rows[:-1], rows[1:], dim=1)
    assert abs(beside.mean().item()) < 0.01 and beside.abs().max().item() < 0.6


def test_a_sample_does_not_depend_on_its_batch():
    def streams(*slots: int) -> list[torch.Generator]:
        return [torch_generator(0, slot) for slot in slots]

    assert torch.equal(normal(streams(0, 1, 2, 3), (4, 6, 6))[2:], normal(streams(2, 3), (4, 6, 6)))
    assert torch.equal(uniform(streams(0, 1, 2))[2:], uniform(streams(2)))
    assert torch.equal(integers(streams(0, 1, 2), 0, 1000)[2:], integers(streams(2), 0, 1000))


def test_no_draw_touches_the_global_generators():
    before = torch.get_rng_state()
    normal([torch_generator(1)], (3,))
    integers([torch_generator(1)], 0, 9)
    assert torch.equal(before, torch.get_rng_state())
