"""The picture of what the shipped encoder draws."""

import numpy as np
import pytest

from adaface.miniature.measure import grids
from adaface.miniature.measure.found_faces import FaceReader
from adaface.miniature.pictures.portraits import SIZE
from adaface.miniature.shipped import WEIGHTS


def test_below_a_photograph_is_its_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "COLUMNS", 3)
    monkeypatch.setattr(grids, "PROMPTS", ("a photo of a {}", "a photo of a {} on the beach"))
    sheet = grids.encoder(WEIGHTS)[::2, ::2]
    side = sheet.shape[0] // 3
    cells = [[sheet[y * side :, x * side :][:SIZE, :SIZE] for x in range(3)] for y in range(3)]
    reader = FaceReader(WEIGHTS)
    photos = reader.read(np.array(cells[0]))
    for row in cells[1:]:
        drawn = reader.read(np.array(row))
        assert drawn.found.all()
        cosines = drawn.of("pack") @ photos.of("pack").T
        assert (cosines.argmax(1) == np.arange(3)).all() and cosines.diagonal().min() > 0.5, cosines
