"""The picture of one subject prompt in five kinds of pipeline."""

from pathlib import Path

import cv2
import numpy as np

from adaface.miniature.measure.pipelines import FRAMES, KINDS, draw
from adaface.miniature.pictures.portraits import SIZE
from tests.tiny_evaluation import make_encoder


def test_every_kind_draws_and_a_fresh_controlnet_changes_nothing(tmp_path: Path) -> None:
    make_encoder(tmp_path / "encoder")
    sheet = draw(str(tmp_path / "encoder"), people=1)
    columns = 2 + len(KINDS) - 1 + FRAMES  # the photographs, a picture of each kind but the last, and its frames
    small = cv2.resize(sheet, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
    side = small.shape[1] // columns
    assert small.shape[0] in (side, side + 2) and side in (SIZE, SIZE + 2)
    pictures = [small[2:SIZE, n * side + 2 : n * side + SIZE].astype(int) for n in range(columns)]
    photo, other, plain, image_to_image, inpainted, controlled, *frames = pictures
    assert np.abs(plain - controlled).mean() < 2
    for picture in (photo, other, image_to_image, inpainted, *frames):
        assert np.abs(picture - plain).mean() > 5
    assert np.abs(inpainted - other)[:, :6].mean() < np.abs(plain - other)[:, :6].mean()  # beside the mask it stays
