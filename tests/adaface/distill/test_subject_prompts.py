"""Prompts with a subject: the slots are where it stands, its vectors get the gradient, the rest is the text encoder's."""

from __future__ import annotations

import pytest
import torch

from adaface.distill.subject_prompts import SubjectPrompts
from tests.adaface.distill.conftest import Tiny
from tests.tiny_distill import WIDTH


@pytest.fixture(scope="module")
def prompts(tiny: Tiny) -> SubjectPrompts:
    return SubjectPrompts(tiny.models)


def vectors(count: int) -> torch.Tensor:
    return torch.randn(count, 16, WIDTH, generator=torch.Generator().manual_seed(1))


def test_plain_text_is_what_the_text_model_says(tiny: Tiny, prompts: SubjectPrompts) -> None:
    texts = ["a photo of a woman", "a drawing of a man wearing a hat"]
    tokens = prompts.plain(texts)
    assert torch.equal(
        tokens, tiny.models.tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    )
    states = prompts.states(tokens, None, None, None)
    torch.testing.assert_close(states, tiny.models.text(tokens).last_hidden_state)
    # all of the weight on the last layer is no mixture
    torch.testing.assert_close(prompts.states(tokens, None, None, (0.0, 0.0, 1.0)), states)
    assert not torch.allclose(prompts.states(tokens, None, None, (1.0, 2.0, 2.0)), states)


def test_a_subject_takes_sixteen_slots_where_it_stands(prompts: SubjectPrompts) -> None:
    tokens, slots = prompts.windows(["a photo of a z", "z riding a horse"])
    assert tokens.shape == slots.shape == (2, 77)
    assert [row.nonzero()[:, 0].tolist() for row in slots] == [list(range(5, 21)), list(range(1, 17))]
    assert prompts.words_of(tokens).sum(1).tolist() == [4 + 16, 16 + 3]
    assert prompts.words_of(prompts.empty).sum() == 0


def test_words_in_the_slots_of_a_subject_are_those_words(tiny: Tiny, prompts: SubjectPrompts) -> None:
    """Vectors that are the embeddings of sixteen words give the states of the prompt with these words."""
    words = " ".join(["a", "woman", "man", "hat"] * 4)
    tokens, slots = prompts.windows(["a photo of a z riding a horse"])
    written = prompts.plain([f"a photo of a {words} riding a horse"])
    embedded = tiny.models.text.get_input_embeddings()(written)[slots][None]
    torch.testing.assert_close(
        prompts.states(tokens, slots, embedded, None), prompts.states(written, None, None, None)
    )


def test_the_gradient_is_that_of_the_vectors_of_the_same_row(tiny: Tiny, prompts: SubjectPrompts) -> None:
    given = vectors(2).requires_grad_()
    tokens, slots = prompts.windows(["a photo of a z", "a drawing of a z"])
    prompts.states(tokens, slots, given, (1.0, 2.0, 2.0))[0, -1, 0].backward()
    assert given.grad is not None
    assert bool((given.grad[0].abs().sum(1) > 0).all()) and not given.grad[1].any()
    assert all(parameter.grad is None for parameter in tiny.models.text.parameters())


@pytest.mark.parametrize(("prompt", "said"), [("a z and a z", "has the subject once"), ("z " + "a " * 70, "too long")])
def test_prompts_that_cannot_be_trained_on(prompts: SubjectPrompts, prompt: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prompts.windows([prompt])


def test_what_fits_into_the_window(prompts: SubjectPrompts) -> None:
    room = 75
    assert prompts.token_count("a woman") == 2
    assert prompts.fits("z" + " a" * (room - 16), "a " * room)
    assert not prompts.fits("z" + " a" * (room - 15), "a")
    assert not prompts.fits("z", "a " * (room + 1))
