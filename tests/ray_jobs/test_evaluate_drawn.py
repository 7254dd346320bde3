"""A part that was cut off in the middle: what was drawn is not drawn again, and every byte is the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.storage import Storage
from ray_jobs.config_file import load
from ray_jobs.evaluate import Evaluation
from ray_jobs.evaluate_config import EvaluateConfig
from ray_jobs.evaluate_drawn import kept
from ray_jobs.evaluate_input import check_input
from ray_jobs.evaluate_parts import Drawer, Job, Measurer
from ray_jobs.evaluate_todo import parts_to_do
from tests.ray_jobs.conftest import tree
from tests.tiny_evaluation import make_people, small_settings


class Counted:
    """A method that draws noise, other noise in other company, and writes down every picture that it draws."""

    def __init__(self, folder: str):
        self.file = Path(folder, "draws.log")

    def prepare(self, subject: Any, photos: Any, ids: Any) -> None: ...

    def draw(self, prepared: None, requests: Sequence[Any]) -> list[np.ndarray]:
        with self.file.open("a") as log:
            log.writelines(f"{request.prompt.id} {request.seed}\n" for request in requests)
        company = len(requests)
        return [
            np.random.default_rng([request.seed, company]).integers(0, 255, (64, 64, 3), np.uint8)
            for request in requests
        ]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_people(tmp_path_factory.mktemp("people"))


@pytest.fixture
def planned(people: Path, tmp_path: Path, project: Path) -> Callable[[str], tuple[Job, Storage]]:
    """The job of an evaluation of one person by `Counted` into a folder, and that folder: parts of 4 and 2 pictures."""
    (tmp_path / "log").mkdir()

    def plan(name: str) -> tuple[Job, Storage]:
        entry_point = "entry_point: 'tests.ray_jobs.test_evaluate_drawn:Counted'"
        method = f"{{name: counted, kind: entry_point, {entry_point}, settings: {{folder: '{tmp_path / 'log'}'}}}}"
        settings = [f"methods=[{method}]", "subjects.names=[Ana]", "measures.scene_classifier=null"]
        settings = small_settings(people, tmp_path / "none", tmp_path / name, *settings)
        config = load(EvaluateConfig, project / "configs" / "evaluate-miniature.yaml", settings)
        out = Storage(config.output)
        return Evaluation(config, check_input(config), out, None).plan(), out

    return plan


def draws(tmp_path: Path) -> list[str]:
    return (tmp_path / "log" / "draws.log").read_text().splitlines()


def draw(job: Job, number: int = 0) -> dict[str, Any]:
    return Drawer(job)({"part": number, "subject": None})


def test_a_part_that_was_cut_off_is_finished_from_what_was_drawn(
    planned: Callable[[str], tuple[Job, Storage]], tmp_path: Path
) -> None:
    undisturbed, _ = planned("undisturbed")
    assert draw(undisturbed)["drawn"] == 4
    expected = {name: content for name, (_, content) in tree(tmp_path / "undisturbed" / "images").items()}
    (tmp_path / "log" / "draws.log").unlink()

    job, out = planned("out")
    obstacle = tmp_path / "out" / job.parts[0].pictures[2].file
    (obstacle / "in the way").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        draw(job)
    images = tree(tmp_path / "out" / "images")
    assert len(images) == 2 and len(draws(tmp_path)) == 4

    shutil.rmtree(obstacle)
    assert draw(job)["drawn"] == 0
    after = tree(tmp_path / "out" / "images")
    assert len(draws(tmp_path)) == len(set(draws(tmp_path))) == 4, "a picture was drawn twice"
    assert {name: after[name] for name in images} == images, "a picture was written twice"
    assert {name: content for name, (_, content) in after.items()} == expected
    assert kept(out, job.batch_name(job.parts[0])) is None


def test_a_picture_that_is_lost_later_is_drawn_in_its_batch(
    planned: Callable[[str], tuple[Job, Storage]], tmp_path: Path
) -> None:
    """Alone it would be another: the others are drawn once more, and stay as they are."""
    job, _ = planned("out")
    draw(job)
    before = tree(tmp_path / "out" / "images")
    lost = tmp_path / "out" / job.parts[0].pictures[1].file
    lost.unlink()
    assert draw(job)["drawn"] == 1 and len(draws(tmp_path)) == 8
    after = tree(tmp_path / "out" / "images")
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in before.items()
    }
    assert [name for name in after if after[name] != before[name]] == [
        lost.relative_to(tmp_path / "out" / "images").as_posix()
    ]


def test_what_is_left_to_do(planned: Callable[[str], tuple[Job, Storage]], tmp_path: Path) -> None:
    job, out = planned("out")
    assert parts_to_do(job, out) == [0, 1]
    measurer = Measurer(job)
    for number in (0, 1):
        assert parts_to_do(job, out) == [*range(number, 2)]
        measurer(draw(job, number))
    assert parts_to_do(job, out) == []
    features = tmp_path / "out" / job.part_file(job.parts[1])
    written = features.stat().st_mtime_ns
    lost = tmp_path / "out" / job.parts[1].pictures[0].file
    lost.unlink()
    assert parts_to_do(job, out) == [1]
    measurer({"part": 1, "subject": None, "drawn": 0})
    assert features.stat().st_mtime_ns == written  # nothing was drawn, so there is nothing new to look at
    measurer(draw(job, 1))
    assert features.stat().st_mtime_ns > written and parts_to_do(job, out) == []
