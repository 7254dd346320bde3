"""The original's list of templates, made by rule."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from adaface.distill import background, subject_prompts
from adaface.distill.templates import TAKEN, Templates, original_templates


def test_81_of_which_57_are_different():
    listed = Counter(original_templates())
    assert sum(listed.values()) == 81 and len(listed) == 57
    assert Counter(listed.values()) == {1: 45, 3: 12}
    media = Counter(text.partition(" of ")[0] for text, times in listed.items() if times == 1)
    assert media == {"a photo": 15, "an illustration": 15, "a depiction": 15}


@pytest.mark.parametrize(
    "text",
    ["a photo of a {}", "a rendering of a {}", "a cropped photo of the {}", "the photo of a {}", "a depiction of my {}",
     "a dark photo of the {}", "an illustration of the cool {}", "a close-up photo of a {}", "a photo of one {}",
     "a photo of a dirty {}", "a rendition of the {}", "an illustration of the weird {}"],
)  # fmt: skip
def test_the_well_known_ones_are_there(text):
    assert text in original_templates()


def test_draws_come_from_the_whole_list():
    rng = np.random.default_rng(0)
    found = Counter(Templates().draw(rng) for _ in range(8100))
    assert len(found) == 57
    assert found["a rendering of a {}"] / found["a photo of a {}"] == pytest.approx(3, rel=0.35)


def test_templates_without_a_subject_are_refused():
    with pytest.raises(ValueError, match=r"unlike \['a photo', 'a face portrait'\]"):
        Templates(("a photo", "a {}"), "a face portrait")
    with pytest.raises(ValueError, match=r"no other braces, unlike \['a \{style\} of a \{\}'\]"):
        Templates(("a {style} of a {}",))
    with pytest.raises(ValueError, match=r"y and z alone stand for .* \['the letter z and a \{\}'\]"):
        Templates(("the letter z and a {}", "a lazy day of a {}"))
    with pytest.raises(ValueError, match="no templates"):
        Templates(())
    with pytest.raises(ValueError, match="unknown entry"):
        Templates.of({"entry": ["a {}"]})
    assert Templates.of({"entries": ["a {}"]}).entries == ("a {}",)


def test_the_letters_that_are_taken_are_those_of_subject_and_background():
    assert {letter for letter in "abcdefghijklmnopqrstuvwxyz" if TAKEN.search(f"a {letter},")} == {
        subject_prompts.TOKEN,
        background.TOKEN,
    }
