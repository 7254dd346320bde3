"""The fixed panel: one row per person, five pictures each, the same noise every time."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from adaface.distill.panel import Panel, draw_panel
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.tiny_steps import samples, stage_of, task_of

COLUMN, ROW = 128, 128


def panel() -> Panel:
    people = samples(0, 2)
    return Panel(
        photos=tuple(people["image"].numpy()),
        ids=people["id_embedding"],
        person_types=("woman", "man"),
        portrait="a portrait of a {}",
        compositions=("a portrait of a {} wearing a hat", "a portrait of a {} in a forest"),
    )


def test_a_row_per_person(tiny: Tiny) -> None:
    task = task_of(tiny, stage_of("clean_id"))
    before = {name: tensor.clone() for name, tensor in task.encoder.state_dict().items()}
    first = draw_panel(task, panel(), 3)
    picture = Image.open(io.BytesIO(first))
    assert (picture.format, picture.size, picture.mode) == ("PNG", (5 * COLUMN, 2 * ROW), "RGB")
    cells = np.asarray(picture).reshape(2, ROW, 5, COLUMN, 3).transpose(0, 2, 1, 3, 4)
    for row, photo in zip(cells, panel().photos, strict=True):
        assert np.array_equal(row[0][::4, ::4], photo), "the photo is the first"
    assert len({cell.tobytes() for row in cells for cell in row}) == 10
    assert draw_panel(task, panel(), 6) == first, "nothing but the encoder changes it"
    assert task.encoder.training and not task.encoder.teacher.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.encoder.state_dict().items())


def test_only_the_encoders_pictures_change_with_it(tiny: Tiny) -> None:
    task = task_of(tiny, stage_of("clean_id"))
    pictures = [np.asarray(Image.open(io.BytesIO(draw_panel(task, panel(), 0))))]
    with torch.no_grad():
        for parameter in task.encoder.trainable_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    pictures.append(np.asarray(Image.open(io.BytesIO(draw_panel(task, panel(), 0)))))
    changed = (pictures[0] != pictures[1]).reshape(2 * ROW, 5, COLUMN, 3).any(axis=(0, 2, 3))
    assert changed.tolist() == [False, False, True, False, True]
