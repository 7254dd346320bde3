"""Curves and pictures of a run in TensorBoard; others say which package they need."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from data_pipeline.storage import Storage
from ray_jobs.distill_preflight import problems_of, tracker_problems
from ray_jobs.trackers import Trackers
from tests.ray_jobs.tiny_training import Configs

WITH_EXTRAS = "pip install 'adaface[trackers]' for this test"


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


def test_tensorboard_forgets_steps_that_are_made_again(configs: Configs, tmp_path: Path) -> None:
    """Those before the first checkpoint, too."""
    for begins in (1, 4):
        Trackers(configs(log={"trackers": ["tensorboard"]}), Storage(tmp_path), begins).close()
        started = [event.step for event in events(tmp_path / "tensorboard") if event.HasField("session_log")]
        assert begins in started


def test_what_tensorboard_needs_of_an_object_store(configs: Configs) -> None:
    asked = {"log": {"trackers": ["tensorboard"]}}
    assert list(tracker_problems(configs(output="s3://bucket/runs", **asked))) == []
    (endpoint,) = tracker_problems(configs(output="s3://bucket/runs?scheme=http", **asked))
    assert "set AWS_ENDPOINT_URL instead" in endpoint
    assert list(tracker_problems(configs(output="s3://bucket/runs?scheme=http", log={"trackers": []}))) == []
    if importlib.util.find_spec("google") is None:
        (package,) = tracker_problems(configs(output="gs://bucket/runs", **asked))
        assert "pip install google-cloud-storage" in package


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Weights & Biases keeps runs without a network; it reads its settings once in a process."""
    wandb = pytest.importorskip("wandb", reason=WITH_EXTRAS)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    wandb.teardown()
    yield tmp_path / "wandb"
    wandb.teardown()


def store(out: Storage, first: int, last: int) -> None:
    """Rows of a checkpoint at `last`, and a panel of that step, as a run leaves them."""
    rows = "".join(json.dumps(row_of(step)) + "\n" for step in range(first, last + 1))
    out.write_bytes(f"log/steps-{last:08d}-rank0.jsonl", rows.encode())
    out.write_bytes(f"panels/step-{last:08d}.png", png())


def row_of(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 1 / step, "seconds": 0.5, "kinds": ["clean_id"]}


def tell(trackers: Trackers, first: int, last: int) -> None:
    for step in range(first, last + 1):
        trackers.scalars(step, row_of(step))
    trackers.picture(last, "panel", png())


def test_mlflow_has_each_step_once_after_a_crash(
    configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason=WITH_EXTRAS)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.chdir(tmp_path)  # where MLflow puts pictures
    config, out = configs(log={"trackers": ["mlflow"], "log_every": 1}), Storage(tmp_path / "out")
    trackers = Trackers(config, out)
    store(out, 1, 3)
    tell(trackers, 1, 5)
    mlflow.end_run("FAILED")  # killed after step 5, with a checkpoint of step 3
    trackers = Trackers(config, out, begins=4)
    tell(trackers, 4, 7)
    trackers.close()
    (run,) = mlflow.search_runs(experiment_names=["adaface"], output_format="list")
    client = mlflow.MlflowClient()
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")] == [
        (step, 1 / step) for step in range(1, 8)
    ]
    assert run.info.run_name == config.name and run.info.status == "FINISHED"
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    assert sorted(re.findall(r"step\W(\d+)\W", path)[0] for path in pictures) == ["5", "7"]


def wandb_history(folder: Path) -> list[tuple[int, set[str], float | None]]:
    """(step, names, loss) of each row in a folder's file, once its service has written the end of it."""
    for _ in range(600):
        records = list(wandb_records(folder))
        if records and records[-1].WhichOneof("record_type") == "exit":
            break
        time.sleep(0.1)
    found = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            values = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            names = {name for name in values if not name.startswith("_")}
            found.append((record.history.step.num, names, json.loads(values.get("loss", "null"))))
    return found


def wandb_records(folder: Path) -> Iterator[Any]:
    """A head of seven bytes, then blocks of 32 KiB of pieces: checksum, length, kind, content."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    data, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(record)
            record = b""


def test_weights_and_biases_takes_numbers_and_pictures_without_a_network(
    configs: Configs, tmp_path: Path, wandb_folder: Path
) -> None:
    trackers = Trackers(configs(log={"trackers": ["wandb"]}), Storage(tmp_path / "out"))
    trackers.scalars(1, {"step": 1, "loss": 0.5})
    trackers.picture(2, "panel", png())
    trackers.close()
    (folder,) = wandb_folder.glob("offline-run-*")
    assert list(folder.rglob("*.png"))
    assert wandb_history(folder) == [(1, {"loss"}, 0.5), (2, {"panel"}, None)]


CRASHES = """
import os, signal, sys
from data_pipeline.storage import Storage
from ray_jobs.trackers import Trackers
from ray_jobs.distill_config import DistillConfig
from tests.ray_jobs.test_trackers import tell

trackers = Trackers(DistillConfig.model_validate_json(sys.argv[1]), Storage(sys.argv[2]))
tell(trackers, 1, 5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_last_folder_of_weights_and_biases_has_each_step_once_after_a_kill(
    configs: Configs, tmp_path: Path, wandb_folder: Path
) -> None:
    """Without a network: what the killed process had not written yet comes from the rows of the last checkpoint."""
    config, out = configs(log={"trackers": ["wandb"], "log_every": 1}), Storage(tmp_path / "out")
    arguments = [sys.executable, "-c", CRASHES, config.model_dump_json(), str(tmp_path / "out")]
    # a worker has a service process of its own, as this one has
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    killed = subprocess.run(
        arguments, cwd=Path(__file__).parents[2], env=alone, capture_output=True, text=True, timeout=240
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store(out, 1, 3)
    time.sleep(1.1)  # folders are named after the second
    trackers = Trackers(config, out, begins=4)
    tell(trackers, 4, 7)
    trackers.close()
    *_, folder = sorted(wandb_folder.glob("offline-run-*"))
    found = wandb_history(folder)
    assert [(step, loss) for step, _, loss in found] == [(step, 1 / step) for step in range(1, 8)]
    assert [step for step, names, _ in found if "panel" in names] == [3, 7]


@pytest.mark.parametrize(("next_step", "expected"), [(6, [6, 7]), (4, [4, 5, 6, 7]), (2, [2, 3, 4, 5, 6, 7]), (9, [])])
def test_a_server_of_weights_and_biases_is_told_what_it_does_not_have(
    configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, next_step: int, expected: list[int]
) -> None:
    """In the place of the package: a run that a server knows up to a step, and that refuses to go back."""

    class Run:
        def __init__(self) -> None:
            self.step, self.told = next_step, list[tuple[int, str]]()

        def log(self, values: dict[str, Any], step: int) -> None:
            assert step >= self.step, "would be dropped"
            self.step = step
            self.told += ((step, name) for name in values if name in ("loss", "panel"))

    run = Run()
    fake = types.SimpleNamespace(init=lambda **_: run, Image=lambda pixels: pixels)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config, out = configs(log={"trackers": ["wandb"], "log_every": 1}), Storage(tmp_path / "out")
    store(out, 1, 3)
    trackers = Trackers(config, out, begins=4)
    tell(trackers, 4, 7)
    assert [step for step, name in run.told if name == "loss"] == expected
    assert [step for step, name in run.told if name == "panel"] == [step for step in (3, 7) if step in expected]


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(file, "PNG")
    return file.getvalue()
