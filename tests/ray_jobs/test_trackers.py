"""Curves and pictures of a run in TensorBoard; others say which package they need."""

from __future__ import annotations

import importlib.util
import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from data_pipeline.storage import Storage
from ray_jobs.distill_preflight import problems_of
from ray_jobs.trackers import Trackers
from tests.ray_jobs.tiny_training import Configs


def events(folder: Path) -> list[Event]:
    """Of all files: records of length, checksum, content, checksum."""
    found = []
    for file in sorted(folder.iterdir()):
        data, at = file.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            found.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += 12 + size + 4
    return found


def test_numbers_and_pictures(configs: Configs, tmp_path: Path) -> None:
    trackers = Trackers(configs(log={"trackers": ["tensorboard"]}), Storage(tmp_path))
    trackers.scalars(3, {"step": 3, "loss": 0.5, "kinds": ["clean_id"], "norm": math.inf, "skipped": False})
    trackers.picture(6, "panel", png())
    trackers.close()
    said = [(event.step, value) for event in events(tmp_path / "tensorboard") for value in event.summary.value]
    assert [(step, value.tag, value.simple_value) for step, value in said[:2]] == [(3, "loss", 0.5), (3, "skipped", 0)]
    ((step, picture),) = said[2:]
    assert (step, picture.tag, picture.image.height, picture.image.width) == (6, "panel", 4, 6)
    shown = np.asarray(Image.open(io.BytesIO(picture.image.encoded_image_string)))
    assert shown.shape[:2] == (4, 6) and int(shown[..., :3].min()) == 200


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_whose_package_is_missing_is_a_problem_at_once(configs: Configs, name: str) -> None:
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    this = configs(log={"trackers": ["tensorboard", name]})
    (problem,) = problems_of(this)
    assert f"{name} needs the package {name}; pip install 'adaface[trackers]'" in problem
    with pytest.raises(ModuleNotFoundError, match=name):
        Trackers(configs(log={"trackers": [name]}), Storage("unused"))


def test_mlflow_goes_on_with_a_run_that_was_broken_off(
    configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'adaface[trackers]' for this test")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.chdir(tmp_path)  # where MLflow puts pictures
    config = configs(log={"trackers": ["mlflow"]})
    for begins in (1, 4):
        trackers = Trackers(config, Storage(tmp_path / "out"), begins)
        for step in range(begins, begins + 3):
            trackers.scalars(step, {"step": step, "loss": 1 / step, "kinds": ["clean_id"]})
        trackers.picture(begins + 2, "panel", png())
        trackers.close()
    (run,) = mlflow.search_runs(experiment_names=["adaface"], output_format="list")
    client = mlflow.MlflowClient()
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")] == [
        (step, 1 / step) for step in range(1, 7)
    ]
    assert run.info.run_name == config.name and run.info.status == "FINISHED"
    assert client.list_artifacts(run.info.run_id, "images")


def test_weights_and_biases_takes_numbers_and_pictures_without_a_network(
    configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="pip install 'adaface[trackers]' for this test")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    trackers = Trackers(configs(log={"trackers": ["wandb"]}), Storage(tmp_path / "out"))
    trackers.scalars(1, {"step": 1, "loss": 0.5})
    trackers.picture(2, "panel", png())
    trackers.close()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(folder.rglob("*.png")) and list(folder.glob("*.wandb"))


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(file, "PNG")
    return file.getvalue()
