"""The background token: where its vectors stand, what its class prompt has there, what it reads."""

from __future__ import annotations

import pytest
import torch

from adaface.distill import background
from adaface.distill.background import BackgroundFeatures
from adaface.distill.composition_prompts import FourPrompts, four_states
from adaface.distill.subject_prompts import SubjectPrompts
from tests.adaface.distill.conftest import Tiny

CLIP = "package://adaface.miniature/weights/clip"
LAYERS, LAST = 4, (1.0,)


@pytest.fixture(scope="module")
def prompts(tiny: Tiny) -> SubjectPrompts:
    return SubjectPrompts(tiny.models)


def vectors(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


def test_subject_and_background_stand_where_they_are_named(prompts: SubjectPrompts) -> None:
    texts = ["a photo of a z with background y", "one z with background y on the beach"]
    tokens, slots = prompts.windows(texts)
    around = prompts.background_slots(texts)
    assert slots.sum(1).tolist() == [16, 16] and around.sum(1).tolist() == [4, 4]
    assert not (slots & around).any()
    between = prompts.token_count("with background")
    assert ((around.int().argmax(1) - slots.int().argmax(1)) == 16 + between).all()
    assert tokens.shape == slots.shape == around.shape


def test_every_layer_reads_its_own_background_and_the_same_subject(tiny: Tiny, prompts: SubjectPrompts) -> None:
    texts = ["a photo of a z with background y"] * 2
    tokens, slots = prompts.windows(texts)
    around = prompts.background_slots(texts)
    width = tiny.models.text.config.hidden_size
    subject, behind = vectors(2, 16, width), vectors(2, LAYERS, 4, width)
    states = prompts.states(tokens, slots, subject, LAST, (around, behind))
    assert states.shape == (2, LAYERS, tokens.shape[1], width)
    both = slots | around
    for layer in range(LAYERS):
        filled = torch.cat([subject, behind[:, layer]], dim=1)
        torch.testing.assert_close(states[:, layer], prompts.states(tokens, both, filled, LAST), atol=1e-5, rtol=1e-5)
    before = slots.int().argmax(1)[0] + 16  # what stands before the background cannot see it
    assert torch.equal(states[:, 0, :before], states[:, 1, :before])
    assert not torch.allclose(states[:, 0, before:], states[:, 1, before:])


def test_class_prompts_have_one_word_in_the_slots_of_the_background(tiny: Tiny, prompts: SubjectPrompts) -> None:
    """In its place stands `unknown`, spread over as many slots as the background has vectors."""
    words = background.WORDS.format(background.CLASS_WORD + " , , ,")
    subject, of_class = "a photo of a z with background y", f"a photo of a young woman{' ,' * 15} {words}"
    ending = " on the beach"
    texts = FourPrompts((subject,), (subject + ending,), (of_class,), (of_class + ending,), ("",), ("young woman",))
    width = tiny.models.text.config.hidden_size
    behind = vectors(1, LAYERS, 4, width)
    states = four_states(prompts, texts, vectors(1, 16, width), vectors(1, 16, width), LAST, behind)
    assert states.class_composed.shape == states.composed.shape == (1, LAYERS, states.slots.shape[1], width)
    assert states.around is not None
    at = states.class_composed[0, 0][states.around[0]]
    assert at.shape == (4, width) and torch.equal(at, at[:1].expand(4, -1)), "the same state in all four slots"
    assert torch.equal(states.class_single[0, 0], states.class_single[0, -1]), "class prompts know no layers"
    # the words of the composition stand at the same places in both prompts, so that they can be compared
    behind_the_slots = states.composed_words.bool() & ~states.words.bool()
    assert behind_the_slots.sum() == prompts.token_count("on the beach")


def test_features_see_nothing_of_the_person() -> None:
    features = BackgroundFeatures(CLIP)
    images = (vectors(2, 64, 64, 3) * 40 + 128).clamp(0, 255).to(torch.uint8)
    person = torch.zeros(2, 64, 64, dtype=torch.uint8)
    person[:, 16:48, 16:48] = 1
    found = features(images, person)
    assert found.shape == (2, features.tokens, features.width)
    patches = found[:, 1:].unflatten(1, (8, 8))
    assert (patches[:, 2:6, 2:6] == 0).all() and (patches[:, 0].abs().amax(-1) > 0).all()
    whole = features(images, torch.ones_like(person))
    assert (whole[:, 1:] == 0).all(), "there is no background where everything is person"


def test_a_prompt_without_the_subject_is_refused(prompts: SubjectPrompts) -> None:
    with pytest.raises(ValueError, match="has the subject in it"):
        prompts.windows(["a photo of a zebra"])
