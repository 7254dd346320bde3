"""Four prompts that differ in what is compared, and in nothing else."""

from __future__ import annotations

import torch

from adaface.distill.class_tokens import merge_class_words, spread_class_word
from adaface.distill.composition_prompts import FourPrompts, draw_prompts, four_states
from adaface.distill.compositions import Compositions
from adaface.distill.subject_prompts import SubjectPrompts
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.tiny_steps import batch_of, stage_of
from tests.tiny_distill import GRAMMAR, WIDTH

PEOPLE = ("woman", "young man", "child", "person")


def drawn(tiny: Tiny, first: int = 0, count: int = 4, **batch: bool) -> FourPrompts:
    stage = stage_of("compositional", plan={"batch": 1})
    plan, planned, rows = batch_of(stage, count, first, background=False, **batch)
    people = [PEOPLE[(first + number) % len(PEOPLE)] for number in range(count)]
    return draw_prompts(SubjectPrompts(tiny.models), plan, planned, rows, people, Compositions.load(GRAMMAR))


def test_the_four_prompts_of_a_composition(tiny: Tiny) -> None:
    texts = drawn(tiny)
    commas = " ," * 15
    for number, word in enumerate(PEOPLE):
        ending = texts.composed[number].removeprefix(texts.single[number])
        assert len(ending) > 3
        assert texts.class_single[number] == texts.single[number].replace(" z", f" {word}{commas}")
        assert texts.class_composed[number] == texts.class_single[number] + ending
        assert texts.class_texts[number] == texts.single[number].replace(" z", f" {word}") + ending
    assert texts.class_words == PEOPLE


def test_prompts_belong_to_the_slot_of_the_sample(tiny: Tiny) -> None:
    whole, half = drawn(tiny), drawn(tiny, first=2, count=2)
    assert whole.composed[2:] == half.composed and whole.class_texts[2:] == half.class_texts
    assert len(set(whole.composed)) == 4


def test_portraits_have_the_portrait_template(tiny: Tiny) -> None:
    portrait = Compositions.load(GRAMMAR).templates.portrait.format("z")
    assert set(drawn(tiny, portrait=True).single) == {portrait}
    assert set(drawn(tiny, portrait=False).single) != {portrait}


def test_a_composition_that_is_too_long_loses_its_end(tiny: Tiny) -> None:
    prompts, grammar = SubjectPrompts(tiny.models), Compositions.load(GRAMMAR)
    plan, batch, rows = batch_of(stage_of("compositional", plan={"batch": 1}), 1, background=False)
    long = " ".join(["young"] * 50) + " woman"
    texts = draw_prompts(prompts, plan, batch, rows, [long], grammar)
    whole = draw_prompts(prompts, plan, batch, rows, ["woman"], grammar)
    assert whole.composed[0].startswith(texts.composed[0]) and len(texts.composed[0]) < len(whole.composed[0])
    assert prompts.plain(texts.class_composed).shape == (1, 77)


def test_states_match_token_by_token(tiny: Tiny) -> None:
    prompts = SubjectPrompts(tiny.models)
    texts = drawn(tiny)
    vectors = torch.randn(4, 16, WIDTH, generator=torch.Generator().manual_seed(2)).requires_grad_()
    skip = (0.2, 0.3, 0.5)
    states = four_states(prompts, texts, 2 * vectors, vectors, skip)
    for name, scale in (("single", 2), ("composed", 1)):
        tokens, slots = prompts.windows(getattr(texts, name))
        torch.testing.assert_close(getattr(states, name), prompts.states(tokens, slots, scale * vectors, skip))
        assert torch.equal(states.slots, slots), "the subject stands in the same place in all prompts of a row"
        words = states.words if name == "single" else states.composed_words
        assert torch.equal(words, prompts.words_of(tokens))
        of_class = prompts.states(prompts.plain(getattr(texts, f"class_{name}")), None, None, skip)
        for row, word in enumerate(texts.class_words):
            at = int(slots[row].int().argmax())
            expected = merge_class_words(of_class[row : row + 1], at, len(word.split()))
            found = getattr(states, f"class_{name}")[row]
            torch.testing.assert_close(found, spread_class_word(expected, at, 16)[0])
            torch.testing.assert_close(found[at], found[at + 15])
    assert states.single.requires_grad and not states.class_single.requires_grad
