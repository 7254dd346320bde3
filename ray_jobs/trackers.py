"""Curves and pictures of a run in TensorBoard, and in Weights & Biases or MLflow where they are installed and asked for."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from PIL import Image

from data_pipeline.storage import Storage
from ray_jobs.distill_config import DistillConfig


class Tracker(Protocol):
    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """All of a configuration's `log.trackers`. Raises ModuleNotFoundError for one whose package is missing."""

    def __init__(self, config: DistillConfig, out: Storage):
        makers: dict[str, Callable[[DistillConfig, Storage], Tracker]] = {
            "tensorboard": _TensorBoard,
            "wandb": _Wandb,
            "mlflow": _MLflow,
        }
        self._all: list[Tracker] = [makers[name](config, out) for name in config.log.trackers]

    def scalars(self, step: int, row: Mapping[str, Any]) -> None:
        values = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and name != "step" and math.isfinite(value)
        }
        for tracker in self._all:
            tracker.scalars(step, values)

    def picture(self, step: int, name: str, png: bytes) -> None:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        for tracker in self._all:
            tracker.picture(step, name, pixels)

    def close(self) -> None:
        for tracker in self._all:
            tracker.close()


class _TensorBoard:
    def __init__(self, config: DistillConfig, out: Storage):
        from tensorboardX import SummaryWriter

        # an s3:// folder, too: tensorboardX writes there by boto3
        self._writer = SummaryWriter(str(out.local_path("tensorboard")) if out.is_local else out.locate("tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, config: DistillConfig, out: Storage):
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project="adaface",
            name=config.name,
            id=f"{config.name}-stage{config.stage}",
            resume="allow",
            config=config.model_dump(mode="json"),
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._run.log({name: self._wandb.Image(pixels)}, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, config: DistillConfig, out: Storage):
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment("adaface")
        mlflow.start_run(run_name=config.name)
        mlflow.log_dict(config.model_dump(mode="json"), "config.json")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._mlflow.log_image(pixels, key=name, step=step)

    def close(self) -> None:
        self._mlflow.end_run()
