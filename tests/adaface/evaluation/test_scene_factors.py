"""What prompts expect against what the classifier reads, a word at a time."""

from __future__ import annotations

import pytest

from adaface.evaluation.prompts import Prompt
from adaface.evaluation.scene_factors import factor_problems
from tests.adaface.evaluation.known_pictures import PROMPT, measures

PET = Prompt(id="pet", category="pets", text="a {} with a dog", expects={"pet": "dog", "place": "beach"})


class Reader:
    """Says nothing of its words."""

    def __call__(self, pictures: list) -> dict[str, list[str]]:
        return {"place": ["beach"] * len(pictures)}


def test_what_prompts_expect_is_read():
    assert list(factor_problems(measures(), [PROMPT])) == []


def test_a_factor_that_is_not_read_is_named():
    (said,) = factor_problems(measures(), [PROMPT, PET])
    assert said.startswith("prompts expect pet, but the scene classifier")
    assert "SceneReader reads only place, clothing" in said and "take these words out of `expects`" in said


def test_a_word_that_the_classifier_does_not_know_is_named():
    beech = Prompt("beech", "place", "a {} on the beech", {"place": "beech"})
    moon = Prompt("moon", "place", "a {} on the moon", {"place": "beach", "light": "moon", "wether": "fine"})
    factor, place, light = factor_problems(measures(), [PROMPT, beech, moon])
    assert factor.startswith("prompts expect wether, but")
    assert place.startswith(
        "prompt beech expects place: beech, which the scene classifier does not know; did you mean"
    )
    assert place.endswith("beach?") and "prompt moon expects light: moon" in light and "it knows plain" in light
    silent = measures(scene_classifier={"entry_point": "tests.adaface.evaluation.test_scene_factors:Reader"})
    assert list(factor_problems(silent, [beech])) == []


@pytest.mark.parametrize(
    ("changes", "prompts"),
    [
        ({"metrics": ["face_similarity"]}, [PET]),
        ({"scene_classifier": None}, [PET]),
        ({"scene_classifier": {"entry_point": "nowhere:f"}}, [Prompt("x", "y", "a {}")]),
    ],
    ids=["the metric is not asked for", "no classifier", "nothing is expected"],
)
def test_where_nobody_asks_nothing_is_opened(changes, prompts):
    assert list(factor_problems(measures(**changes), prompts)) == []
