"""The configuration of `evaluate`: the protocol of adaface.evaluation, and the machines."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field

from adaface.evaluation.config import EvaluationConfig
from data_pipeline.storage import inside, is_uri
from ray_jobs.config import ClusterConfig, JobConfig
from ray_jobs.fetched import fetched

EncoderPath = str | list[str]  # see `EncoderMethodConfig.path`


class EvaluateClusterConfig(ClusterConfig):
    """`workers` draw; others measure what was drawn, at the same time."""

    measure_workers: int = Field(default=1, ge=1, description="actors that measure pictures")
    gpus_per_measure_worker: float = Field(default=0, ge=0)


class EvaluateConfig(EvaluationConfig, JobConfig):
    """Of `evaluate`."""

    template: ClassVar[str] = "configs/evaluate.yaml"
    example: ClassVar[str] = "generation.steps=20"

    history: str | None = Field(
        default=None, description="folder or URI of the Parquet history of runs; null: `history` beside the output"
    )
    cluster: EvaluateClusterConfig = EvaluateClusterConfig()

    def what_it_makes(self) -> dict[str, Any]:
        return {key: value for key, value in super().what_it_makes().items() if key not in ("cluster", "history")}


def history_of(config: EvaluateConfig) -> str:
    """Where the history lies: all runs whose outputs are in one folder share it by default."""
    if config.history:
        return config.history
    if not is_uri(config.output):
        return os.path.join(os.path.dirname(_absolute(config.output)), "history")
    scheme, _, place = config.output.partition("://")
    place, mark, query = place.partition("?")
    parent, _, _ = place.rstrip("/").rpartition("/")
    # beside a whole bucket there is no place
    return inside(f"{scheme}://{parent or place}{mark}{query}", "history")


def with_absolute_paths(config: EvaluateConfig) -> EvaluateConfig:
    """The same configuration for code that runs in another folder.

    Names of models that may be on the hub stay as they are unless there is such a path here.
    """
    values = config.model_dump(mode="python")
    values["output"], values["history"] = _absolute(config.output), _absolute(history_of(config))
    values["subjects"]["folder"] = _absolute(config.subjects.folder)
    values["measures"]["faces"]["pack"] = _absolute(config.measures.faces.pack)
    for judge in values["measures"]["judges"]:
        judge["file"] = _absolute(judge["file"])
    places = [(values["generation"], "base"), (values["measures"], "clip")]
    places += [(encoder, "model") for encoder in values["measures"]["image_encoders"].values()]
    places += [(m, key) for m in values["methods"] for key in ("unet", "text_encoder", "tokenizer", "path")]
    for section, key in places:
        if isinstance(section.get(key), list):  # several folders are never names of the hub
            section[key] = [_absolute(folder) for folder in section[key]]
        elif section.get(key) and os.path.exists(os.path.expanduser(section[key])):
            section[key] = _absolute(section[key])
    values["prompts"]["sets"] = [
        _absolute(name) if os.path.exists(os.path.expanduser(name)) else name for name in config.prompts.sets
    ]
    return EvaluateConfig.model_validate(values)


def with_encoders_here(config: EvaluateConfig) -> EvaluateConfig:
    """The same configuration for this machine: encoders in an object store are copied to it."""
    return with_encoders(config, lambda path: fetched(path) if isinstance(path, str) else path)


def with_encoders(config: EvaluateConfig, place: Callable[[EncoderPath], EncoderPath]) -> EvaluateConfig:
    """The same configuration with `place(path)` for the path, or the paths, of every encoder."""
    methods = [
        method.model_copy(update={"path": place(method.path)}) if method.kind == "encoder" else method
        for method in config.methods
    ]
    return config.model_copy(update={"methods": methods})


def _absolute(path: str) -> str:
    return path if is_uri(path) else os.path.abspath(os.path.expanduser(path))
