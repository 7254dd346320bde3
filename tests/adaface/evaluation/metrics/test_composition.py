from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.metrics.composition import Composition
from tests.adaface.evaluation.metrics.small_tables import X, gallery, picture, references, table

EXPECTS = {"p": {"place": "beach", "headwear": "hat"}, "q": {"place": "snow"}, "plain": {}}
PICTURES = [picture(prompt="p"), picture(prompt="p", k=1), picture(prompt="q"), picture(prompt="plain")]
SEEN = {
    "place": ["beach", "beach", "beach", "beach"],
    "headwear": ["hat", "crown", "hat", "none"],
    "style": ["photo"] * 4,
}


def test_the_share_of_expected_words_that_are_seen():
    found = Composition(["place", "headwear"]).score(
        table(PICTURES, gallery(seen=SEEN), expects=EXPECTS), references(gallery([X]))
    )
    assert found["composition"] == pytest.approx([1, 0.5, 0, np.nan], nan_ok=True)
    assert found["composition_place"] == pytest.approx([1, 1, 0, np.nan], nan_ok=True)
    assert found["composition_headwear"] == pytest.approx([1, 0, np.nan, np.nan], nan_ok=True)


def test_a_factor_that_nobody_reads_is_an_error():
    with pytest.raises(
        ValueError, match=r"expect weather, but the scene classifier reads only place, headwear, style"
    ):
        Composition(["weather", "place"]).score(
            table(PICTURES, gallery(seen=SEEN), expects=EXPECTS), references(gallery([X]))
        )
