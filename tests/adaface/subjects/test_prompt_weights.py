"""Weights in brackets, and what they do to text states."""

import pytest
import torch

from adaface.subjects.prompt_weights import escape, parse, weigh


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("plain, words", [("plain, words", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("a (horse:1.3)", [("a ", 1.0), ("horse", 1.3)]),
        ("a (horse: .5 )", [("a ", 1.0), ("horse", 0.5)]),
        ("((very)) [little]", [("very", 1.21), (" ", 1.0), ("little", 1 / 1.1)]),
        ("((big:1.5) horse)", [("big", 1.65), (" horse", 1.1)]),
        # what is not closed reaches to the end; what was not opened is a character
        ("a (b c", [("a ", 1.0), ("b c", 1.1)]),
        ("a) b] c:2) :)", [("a) b] c:2) :)", 1.0)]),
        (r"\(a\) \[b\] \\ \c", [(r"(a) [b] \ \c", 1.0)]),
        ("12:30, a: b", [("12:30, a: b", 1.0)]),
        ("(gone:0)", [("gone", 0.0)]),
        ("", []),
    ],
)
def test_brackets(text, pieces):
    found = parse(text)
    assert [text for text, _ in found] == [text for text, _ in pieces]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces])


@pytest.mark.parametrize("text", ["a (b:1.2) [c]", r"\(", "a\\", ":)"])
def test_escaped_text_means_itself(text):
    assert parse(escape(text)) == [(text, 1.0)]


def test_weights_scale_tokens_and_keep_the_mean():
    states = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)) + 0.3
    weights = torch.tensor([[1, 1, 1, 1, 1], [1, 1.3, 1.3, 1, 0.5], [2, 2, 2, 2, 2]], dtype=torch.float32)
    out = weigh(states, weights)
    assert torch.equal(out[0], states[0])
    torch.testing.assert_close(out.mean(dim=(1, 2)), states.mean(dim=(1, 2)))
    ratio = out[1] / states[1]
    torch.testing.assert_close(ratio[1] / ratio[0], torch.full((8,), 1.3))
    torch.testing.assert_close(ratio[4] / ratio[0], torch.full((8,), 0.5))
    torch.testing.assert_close(out[2], states[2])


def test_rows_do_not_depend_on_one_another_and_keep_their_dtype():
    states = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    weights = torch.tensor([[1, 1.3, 1, 1, 1], [1, 1, 1.5, 1, 1]])
    both = weigh(states, weights)
    assert both.dtype == torch.bfloat16
    assert torch.equal(both[:1], weigh(states[:1], weights[:1]))


def test_states_of_mean_zero_survive():
    states = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    torch.testing.assert_close(weigh(states, torch.tensor([[1.0, 2.0]])), torch.tensor([[[1.0, -1.0], [4.0, -4.0]]]))
