"""Curves and pictures of a run in TensorBoard, and in Weights & Biases or MLflow where they are installed and asked for."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from PIL import Image

from data_pipeline.storage import Storage
from ray_jobs.config_file import config_hash
from ray_jobs.distill_config import DistillConfig
from ray_jobs.tracked_before import panels_before, rows_before

_MLFLOW_RUN = "mlflow.json"  # in the folder of the run: MLflow chooses the ids of its runs itself
_EVERY_ROW_HAS = "seconds"  # a loss is left out where it is not finite


class Tracker(Protocol):
    """Attributes: `known`, the last step that it has; whatever it is told of steps up to that, it has already."""

    known: int

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """All of a configuration's `log.trackers`, from step `begins` on, each step once in each of them.

    After a crash a run goes on from its last checkpoint, and makes steps again that a tracker may have. TensorBoard forgets
    those; the others cannot, so that what they have stays and is not said again. What a crash took from them, of steps
    before `begins`, they get from what the run has stored.

    Raises ModuleNotFoundError for one whose package is missing.
    """

    def __init__(self, config: DistillConfig, out: Storage, begins: int = 1):
        makers: dict[str, Callable[[DistillConfig, Storage, int], Tracker]] = {
            "tensorboard": _TensorBoard,
            "wandb": _Wandb,
            "mlflow": _MLflow,
        }
        self._all: list[Tracker] = [makers[name](config, out, begins) for name in config.log.trackers]
        if any(tracker.known < begins - 1 for tracker in self._all):
            self._catch_up(config, out, begins)

    def scalars(self, step: int, row: Mapping[str, Any]) -> None:
        values = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and name != "step" and math.isfinite(value)
        }
        for tracker in self._all:
            if step > tracker.known:
                tracker.scalars(step, values)

    def picture(self, step: int, name: str, png: bytes) -> None:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        for tracker in self._all:
            if step > tracker.known:
                tracker.picture(step, name, pixels)

    def close(self) -> None:
        for tracker in self._all:
            tracker.close()

    def _catch_up(self, config: DistillConfig, out: Storage, begins: int) -> None:
        """In the order of steps: Weights & Biases takes no other."""
        panels = list(panels_before(out, begins))
        for row in rows_before(out, config.log, begins):
            while panels and panels[0][0] < row["step"]:
                self._panel(out, *panels.pop(0))
            self.scalars(row["step"], row)
        for step, name in panels:
            self._panel(out, step, name)

    def _panel(self, out: Storage, step: int, name: str) -> None:
        self.picture(step, "panel", out.read_bytes(name))


class _TensorBoard:
    def __init__(self, config: DistillConfig, out: Storage, begins: int):
        from tensorboardX import SummaryWriter

        # an s3:// folder, too: tensorboardX writes there by boto3
        place = str(out.local_path("tensorboard")) if out.is_local else out.locate("tensorboard")
        self._writer = SummaryWriter(place, purge_step=begins)
        self.known = begins - 1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, config: DistillConfig, out: Storage, begins: int):
        import wandb

        # runs elsewhere may have the same name, and the same run goes on under its id
        place = hashlib.sha256(out.uri.encode()).hexdigest()[:8]
        self._wandb = wandb
        self._run = wandb.init(
            project="adaface",
            name=config.name,
            id=f"{config.name}-stage{config.stage}-{place}-{config_hash(config)}",
            resume="allow",
            config=config.model_dump(mode="json"),
        )
        # Its step is that of the next row. Without a network every start has a folder of its own, from step 0: the last
        # folder has the whole run.
        self.known = self._run.step - 1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._run.log({name: self._wandb.Image(pixels)}, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, config: DistillConfig, out: Storage, begins: int):
        import mlflow

        self._mlflow = mlflow
        self.known = 0
        mlflow.set_experiment("adaface")
        if out.exists(_MLFLOW_RUN):
            run_id = out.read_json(_MLFLOW_RUN)["run_id"]
            mlflow.start_run(run_id=run_id)
            history = mlflow.MlflowClient().get_metric_history(run_id, _EVERY_ROW_HAS)
            self.known = max((metric.step for metric in history), default=0)
            return
        started = mlflow.start_run(run_name=config.name)
        out.write_json(_MLFLOW_RUN, {"run_id": started.info.run_id})
        mlflow.log_dict(config.model_dump(mode="json"), "config.json")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._mlflow.log_image(pixels, key=name, step=step)

    def close(self) -> None:
        self._mlflow.end_run()
