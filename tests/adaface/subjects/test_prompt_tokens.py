"""Prompts in pieces, with people in them, and windows of them."""

import pytest
import torch

from adaface.subjects.prompt_tokens import PromptTokenizer
from tests.adaface.subjects.tiny_pipelines import WIDTH, build_pipeline


@pytest.fixture(scope="module")
def pipe():
    """With three textual inversions: one of two vectors, one of one, and one that looks like an installed subject."""
    pipe, _ = build_pipeline("text-to-image")
    pipe.load_textual_inversion(torch.randn(2, WIDTH), token="<style>")
    pipe.load_textual_inversion(torch.randn(1, WIDTH), token="sks")
    pipe.load_textual_inversion(torch.randn(3, WIDTH), token="<z>")
    return pipe


@pytest.fixture(scope="module")
def tokens(pipe) -> PromptTokenizer:
    return PromptTokenizer(pipe, {"z": 16})


def written(tokenizer: PromptTokenizer, prompt: str) -> list[str]:
    """Each unit as text without spaces, a subject as its token in capitals."""
    decode = tokenizer.tokenizer.decode
    return [
        unit.subject.upper() if unit.subject else decode(list(unit.ids)).replace(" ", "")
        for unit in tokenizer.units(prompt)
    ]


@pytest.mark.parametrize(
    ("prompt", "units"),
    [
        ("z riding a horse", ["Z", "riding", "a", "horse"]),
        ("a horse", ["Z", "a", "horse"]),  # absent: in front
        ("", ["Z"]),
        ("z and z", ["Z", "and", "Z"]),  # every occurrence
        ("a photo of z, oil painting", ["a", "photo", "of", "Z", ",", "oil", "painting"]),
        ("(z:1.3) on a (horse)", ["Z", "on", "a", "horse"]),
        ("Z on a horse", ["Z", "z", "on", "a", "horse"]),  # another case is another word
        ("a z_1 horse", ["Z", "a", "z", "_", "1", "horse"]),
        ("a <z> horse", ["Z", "a", "<z> <z>_1 <z>_2", "horse"]),  # an inversion is no subject
    ],
)
def test_whole_words_are_the_subject(tokens, prompt, units):
    assert written(tokens, prompt) == [unit.replace(" ", "") for unit in units]
    assert all(len(unit.ids) == 16 for unit in tokens.units(prompt) if unit.subject)


def test_slots_and_weights(tokens):
    slots = tokens.units("a (z:1.3) horse")[1]
    assert len(slots.ids) == 16 and slots.weight == 1.3
    window = tokens.windows(tokens.units("a (z:1.3) (horse)"), "refuse")[0]
    assert window.subjects == [(2, "z")]
    assert window.weights == pytest.approx([1, 1] + [1.3] * 16 + [1.1] + [1] * (77 - 19))


def test_two_people_each_with_a_token(pipe):
    both = PromptTokenizer(pipe, {"z": 16, "y": 4})
    assert written(both, "y and z") == ["Y", "and", "Z"]
    assert written(both, "a horse")[:2] == ["Z", "Y"]
    assert written(both, "y on a horse").count("Z") == 0  # who is not named is not there
    window = both.windows(both.units("y and z"), "refuse")[0]
    assert window.subjects == [(1, "y"), (6, "z")]


def test_plain_prompts_are_tokenised_as_by_the_pipeline(pipe):
    plain = PromptTokenizer(pipe, {})
    for prompt in ["a photo of a man, oil painting", "", "<style> horse sks", "  Two   spaces, 12:30 & café"]:
        (window,) = plain.windows(plain.units(prompt), "refuse")
        expected = pipe.tokenizer(
            pipe.maybe_convert_prompt(prompt, pipe.tokenizer), padding="max_length", max_length=77
        ).input_ids
        assert window.tokens == expected


def test_what_is_too_long_is_refused_by_how_much(tokens):
    prompt = "z " + "horse " * 61
    with pytest.raises(ValueError, match="2 tokens too long: 77 where the window has room for 75, 16 of them"):
        tokens.windows(tokens.units(prompt), "refuse")
    assert len(tokens.windows(tokens.units("z " + "horse " * 59), "refuse")) == 1


def test_chunks_cut_neither_people_nor_words_nor_inversions(tokens):
    prompt = "horse " * 70 + "z on a horse " + "horse " * 55 + "<style>"
    windows = tokens.windows(tokens.units(prompt), "chunk")
    assert [window.subjects for window in windows] == [[], [(1, "z")], []]
    inversion = tokens.tokenizer.convert_tokens_to_ids(["<style>", "<style>_1"])
    assert windows[2].tokens[1:3] == inversion and windows[1].tokens[74] not in inversion
    assert all(len(window.tokens) == 77 == len(window.weights) for window in windows)
    # "qqqqqq" falls into letters here: all of them go into one window
    word = tokens.units("qqqqqq")[1:]
    assert len(word) == 1 and len(word[0].ids) == 6
    second = tokens.windows(tokens.units("horse " * 56 + "qqqqqq"), "chunk")[1]
    assert second.tokens[1:7] == list(word[0].ids)


def test_cut_is_diffusers_cut(pipe):
    plain = PromptTokenizer(pipe, {})
    prompt = "horse " * 73 + "qqqqqq"
    cut = plain.cut(plain.units(prompt))[0].tokens
    assert cut == pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids


def test_tokens_that_cannot_be_are_refused(pipe):
    with pytest.raises(ValueError, match="already has a textual inversion named sks"):
        PromptTokenizer(pipe, {"sks": 16})
    with pytest.raises(ValueError, match=r"room for z \(80 vectors\)"):
        PromptTokenizer(pipe, {"z": 80})
