"""Training of the networks that look at faces: small runs that go through everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaface.miniature.pictures.photo_albums import PEOPLE_PER_CHUNK, SLOT, Album, decode, load_album
from adaface.miniature.recipes import attributes, recogniser
from adaface.miniature.recipes.attributes import AttributesTask
from adaface.miniature.recipes.recogniser import JudgeTask, RecogniserTask
from adaface.miniature.training import Task, Trainer

ALBUM = Album("few", 5, PEOPLE_PER_CHUNK, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    load_album(folder, ALBUM)
    return folder


@pytest.fixture(params=[RecogniserTask, JudgeTask, AttributesTask])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Task]:
    monkeypatch.setattr(request.param, "album", ALBUM)
    monkeypatch.setattr(request.param, "schedule", replace(request.param.schedule, steps=4, batch=8, warmup=2))
    for recipe in (recogniser, attributes):
        monkeypatch.setattr(recipe, "HELD_OUT_ALBUMS", {"photo": ALBUM})
    return request.param


def test_an_album_holds_its_people(data: Path) -> None:
    rows = load_album(data, ALBUM)
    assert rows["photo"].shape == (200, SLOT) and rows["landmarks"].shape == (200, 5, 2)
    assert (rows["person"] == np.repeat(np.arange(100), 2)).all()
    assert (rows["factors"][0] == rows["factors"][1]).all() and (rows["factors"][0] != rows["factors"][2]).any()
    sides = [decode(photo).shape for photo in rows["photo"]]
    assert sides[0] == (64, 64, 3) and all(72 <= side[0] <= 256 for side in sides[1::2])
    for box, points, side in zip(rows["box"], rows["landmarks"], sides, strict=True):
        assert (points > box[:2] - 0.1 * side[0]).all() and (points < box[2:] + 0.1 * side[0]).all()


def test_what_is_not_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JPEG"):
        decode(np.zeros(SLOT, np.uint8))


def test_resumed_training_equals_undisturbed(kind: type[Task], data: Path, tmp_path: Path) -> None:
    def train(folder: Path, *, steps: int) -> Trainer:
        torch.manual_seed(3)
        task = kind(data=data, weights=tmp_path, device=torch.device("cpu"))  # type: ignore[call-arg]
        trainer = Trainer(task, folder, seed=0, device=torch.device("cpu"))
        whole = task.schedule
        task.schedule = replace(whole, steps=steps)
        lr_at = whole.lr_at
        object.__setattr__(task.schedule, "lr_at", lr_at)  # the same learning rates as in the whole run
        trainer.run()
        return trainer

    whole = train(tmp_path / "whole", steps=4)
    train(tmp_path / "parts", steps=2)
    resumed = train(tmp_path / "parts", steps=4)
    for name, module in whole.task.modules.items():
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, resumed.task.modules[name].state_dict()[key]), f"{name}.{key}"


def test_a_run_is_measured_and_exported(kind: type[Task], data: Path, tmp_path: Path) -> None:
    task = kind(data=data, weights=tmp_path, device=torch.device("cpu"))  # type: ignore[call-arg]
    trainer = Trainer(task, tmp_path / "run", seed=0, device=torch.device("cpu"))
    trainer.run()
    trainer.use_average()
    with torch.inference_mode():
        measures = task.evaluate()
    task.export(tmp_path)
    wanted = {"photo_gender", "photo_age_group"} if kind is AttributesTask else {"photo_auc", "photo_r2", "photo_top1"}
    assert wanted <= set(measures) and all(np.isfinite(value) for value in measures.values())
    assert len(list(tmp_path.glob("*/*.onnx"))) == 1

    # what was exported measures the same, but for the 8 bits of its matrices, and without the training pictures
    again = kind(data=data, weights=tmp_path, device=torch.device("cpu"))  # type: ignore[call-arg]
    again.load(tmp_path)
    assert "rows" not in vars(again)
    x = torch.rand(2, 3, 96 if kind is AttributesTask else 112, 96 if kind is AttributesTask else 112)
    with torch.inference_mode():
        torch.testing.assert_close(again.net(x), task.net(x), atol=1e-2, rtol=1e-2)  # type: ignore[attr-defined]
