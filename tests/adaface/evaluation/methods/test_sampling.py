"""A picture depends on its seed and its text states, not on the company in which it was drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaface.evaluation.methods.base import Person
from adaface.evaluation.methods.sampling import draw
from tests.adaface.evaluation.methods.tiny_methods import BEACH, HAT, drawn_by

SEEDS = [11, 2**62 + 7, 13, 14]


@pytest.fixture(scope="module")
def asked(base, generation):
    """Four pictures of two prompts: states, and the negative ones."""
    person = Person()
    beach, hat = (base.states(generation, person, prompt.of("woman")) for prompt in (BEACH, HAT))
    return [beach, beach, hat, beach], base.negative(generation)


@pytest.fixture(scope="module")
def alone(base, generation, asked):
    states, negative = asked
    return [draw(base.pipe, generation, [s], negative, [seed])[0] for s, seed in zip(states, SEEDS, strict=True)]


@pytest.mark.parametrize("batch", [2, 4])
def test_the_size_of_a_batch_moves_no_picture_by_more_than_a_grey_level(base, generation, asked, alone, batch):
    states, negative = asked
    together = [
        picture
        for start in range(0, 4, batch)
        for picture in draw(
            base.pipe, generation, states[start : start + batch], negative, SEEDS[start : start + batch]
        )
    ]
    apart = np.abs(np.stack(alone).astype(int) - np.stack(together).astype(int))
    # measured, over 50 steps too: 1 grey level in 0.004 % of the values
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3


def test_an_equal_batch_gives_equal_bits_whatever_was_drawn_before(base, generation, asked, alone):
    states, negative = asked
    first = draw(base.pipe, generation, states, negative, SEEDS)
    draw(base.pipe, generation, states[:1], negative, [99])
    again = draw(base.pipe, generation, states, negative, SEEDS)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_seed_and_the_prompt_change_the_picture(alone):
    same_prompt = np.abs(alone[0].astype(int) - alone[1]).mean()
    other_prompt = np.abs(alone[0].astype(int) - alone[2]).mean()
    assert same_prompt > 5 and other_prompt > 5


def test_it_is_what_diffusers_draws(base, generation, asked, alone):
    states, negative = asked
    picture = drawn_by(
        base.pipe,
        generation,
        SEEDS[1],
        prompt_embeds=states[1][None],
        negative_prompt_embeds=negative[None],
    )
    assert picture.dtype == np.uint8 and picture.shape == (64, 64, 3)
    assert np.array_equal(picture, alone[1])


def test_equal_scales_are_a_constant_one_and_1_is_no_guidance(base, generation, asked):
    states, negative = asked

    def at(*guidance: float) -> np.ndarray:
        return draw(base.pipe, generation, states[:1], negative, SEEDS[:1], guidance=guidance)[0]

    unguided = base.pipe(
        prompt_embeds=states[0][None],
        num_inference_steps=generation.steps,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(SEEDS[0]),
    ).images[0]
    assert np.array_equal(at(1, 1), np.asarray(unguided))
    assert not np.array_equal(at(4, 4), at(4, 1))


def test_one_side_alone_may_be_set(base, generation, asked):
    states, negative = asked
    wide = generation.model_copy(update={"width": 80})
    assert draw(base.pipe, wide, states[:1], negative, SEEDS[:1])[0].shape == (64, 80, 3)


def test_no_pictures_are_asked_for(base, generation, asked):
    assert draw(base.pipe, generation, [], asked[1], []) == []


def test_pictures_of_broken_weights_are_refused(base, generation, asked):
    states, negative = asked
    broken = torch.full_like(states[0], torch.nan)
    with pytest.raises(ValueError, match=r"pictures of the seeds 12 have values that are no numbers; .*device to cpu"):
        draw(base.pipe, generation, [states[0], broken], negative, [11, 12])
