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

_MLFLOW_RUN = "mlflow.json"  # in the folder of the run: MLflow chooses the ids of its runs itself


class Tracker(Protocol):
    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """All of a configuration's `log.trackers`, from step `begins` on: what they know of later steps is made again.

    Raises ModuleNotFoundError for one whose package is missing.
    """

    def __init__(self, config: DistillConfig, out: Storage, begins: int = 1):
        makers: dict[str, Callable[[DistillConfig, Storage, int], Tracker]] = {
            "tensorboard": _TensorBoard,
            "wandb": _Wandb,
            "mlflow": _MLflow,
        }
        self._all: list[Tracker] = [makers[name](config, out, begins) for name in config.log.trackers]

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
    def __init__(self, config: DistillConfig, out: Storage, begins: int):
        from tensorboardX import SummaryWriter

        # an s3:// folder, too: tensorboardX writes there by boto3
        place = str(out.local_path("tensorboard")) if out.is_local else out.locate("tensorboard")
        self._writer = SummaryWriter(place, purge_step=begins if begins > 1 else None)

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
        mlflow.set_experiment("adaface")
        if out.exists(_MLFLOW_RUN):
            mlflow.start_run(run_id=out.read_json(_MLFLOW_RUN)["run_id"])
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
