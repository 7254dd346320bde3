"""The whole configuration of a job as one typed tree: what all jobs share, and that of `build_dataset`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from adaface.perception.config import PerceptionConfig
from data_pipeline.config import DataConfig
from data_pipeline.storage import is_uri
from ray_jobs.pipeline_config import PipelineSection


class ClusterConfig(BaseModel):
    """How much of the machines a job takes. Nothing here changes a result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: int | None = Field(
        default=None, ge=1, description="actors that run networks; null: as many as CPUs and GPUs allow"
    )
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(default=0, ge=0, description="share of a GPU per worker; 0.5 puts two on one")
    max_failed_parts: int = Field(
        default=0, ge=0, description="parts and shards that may fail before the job gives up"
    )


class JobConfig(BaseModel, ABC):
    """A configuration file of a job: `configs/*.yaml` plus `--set section.key=value`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: ClassVar[str]  # the file to start from
    example: ClassVar[str]  # of an override

    @abstractmethod
    def what_it_makes(self) -> dict[str, Any]:
        """The configuration without where the result goes and what machines make it: equal values, equal results."""


class DatasetConfig(JobConfig):
    """Of `build_dataset`."""

    template: ClassVar[str] = "configs/faces.yaml"
    example: ClassVar[str] = "data.min_face=64"

    data: DataConfig
    perception: PerceptionConfig
    cluster: ClusterConfig = ClusterConfig()
    pipeline: PipelineSection | None = Field(default=None, description="of `adaface pipeline` only: what comes next")

    def what_it_makes(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"cluster": True, "pipeline": True, "data": {"output": True}})


def with_absolute_paths(config: DatasetConfig) -> DatasetConfig:
    """The same configuration for code that runs in another folder: local paths are absolute, sources keep their names."""

    def absolute(path: str) -> str:
        return path if is_uri(path) else os.path.abspath(os.path.expanduser(path))

    data, perception = config.data, config.perception
    sources = [item.model_copy(update={"path": absolute(item.path), "name": item.label}) for item in data.sources]
    parser = perception.parser and perception.parser.model_copy(update={"file": absolute(perception.parser.file)})
    return config.model_copy(
        update={
            "data": data.model_copy(
                update={
                    "sources": sources,
                    "output": absolute(data.output),
                    "eval_identities": [absolute(path) for path in data.eval_identities],
                }
            ),
            "perception": perception.model_copy(update={"pack": absolute(perception.pack), "parser": parser}),
        }
    )
