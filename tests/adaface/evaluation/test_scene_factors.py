from __future__ import annotations

import pytest

from adaface.evaluation.prompts import Prompt
from adaface.evaluation.scene_factors import check_factors
from tests.adaface.evaluation.known_pictures import PROMPT, measures

PET = Prompt(id="pet", category="pets", text="a {} with a dog", expects={"pet": "dog", "place": "beach"})


def test_what_prompts_expect_is_read():
    check_factors(measures(), [PROMPT])


def test_a_factor_that_is_not_read_is_named():
    with pytest.raises(ValueError, match=r"prompts expect pet, but .*SceneReader reads only place, clothing") as error:
        check_factors(measures(), [PROMPT, PET])
    assert "take these words out of `expects`" in str(error.value)


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
    check_factors(measures(**changes), prompts)
