"""The configuration of `distill`: models, data, the two stages, and the machines."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from adaface.distill.run_file import merged
from adaface.distill.stage import Stage, original_stage
from adaface.models.precision import Precision
from data_pipeline.storage import inside, is_uri
from data_pipeline.stream import StreamConfig
from ray_jobs.config import JobConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelsConfig(_Section):
    """What is looked at and never changes."""

    base: str = Field(description="Stable Diffusion 1.5 or a relative, as a diffusers folder: the student's UNet")
    teacher_unet: str = Field(description="folder of Arc2Face's UNet")
    teacher_text: str = Field(
        description="folder of Arc2Face's text encoder; an encoder to start from that has a copy with it keeps that"
    )
    teacher_tokenizer: str | None = Field(default=None, description="null: the base's")
    text_model: str = Field(description="CLIP text model that a new inverse encoder starts from")
    face_pack: str = Field(description="the pack whose recogniser made the dataset's ID embeddings")
    clip: str | None = Field(default=None, description="CLIP of stage 2's teacher filter; null: nothing is filtered")
    vision: str | None = Field(
        default=None, description="CLIP whose picture features stage 2's background token reads; null: no such token"
    )
    precision: Precision = Field(
        default="fp32", description="of matrix products; auto: bf16 where the hardware is good at it, else fp32"
    )
    compile: bool = Field(default=False, description="torch.compile for the student's UNet, where nothing is captured")
    checkpoint_gradients: bool = Field(default=False, description="less memory, a third more time")


# Settings of `models` that name files or folders.
MODEL_PLACES = (
    "base",
    "teacher_unet",
    "teacher_text",
    "teacher_tokenizer",
    "text_model",
    "clip",
    "vision",
    "face_pack",
)


class RunConfig(_Section):
    """One run of training: a stage of one round."""

    init: str | None = Field(default=None, description="encoder folder to start from; null: a new encoder")
    multiplier: Annotated[int, Field(ge=1)] = Field(
        default=1, description="keys and values per token that the encoder is to have, in all layers"
    )
    stage: Stage = Stage()
    seed: int = Field(default=42, ge=0, lt=2**63)


class MachinesConfig(_Section):
    """How much of the machines a run takes."""

    workers: Annotated[int, Field(ge=1)] | tuple[int, int] = Field(
        default=1, description="a number, or (least, most): elastic"
    )
    gpu: bool = Field(default=False, description="one GPU for each worker")
    cpus_per_worker: float = Field(default=1, gt=0)
    threads: int = Field(default=1, ge=1, description="CPU threads of a worker's networks")
    retries: int = Field(default=3, ge=-1, description="restarts after a worker died; -1: without end")
    deterministic: bool | None = Field(
        default=None,
        description="only operations that give the same bits again; null: on CPUs, as it makes GPUs slower",
    )
    samples_per_worker: int | None = Field(default=None, ge=1, description="whole groups of the plan; null: one group")

    @field_validator("workers")
    @classmethod
    def _least_and_most(cls, workers: int | tuple[int, int]) -> int | tuple[int, int]:
        if isinstance(workers, tuple) and not 1 <= workers[0] <= workers[1]:
            raise ValueError(f"(least, most) must be 1 or more, the least first, not {workers}")
        return workers


class LogConfig(_Section):
    """What a run leaves behind."""

    checkpoint_every: int = Field(default=500, ge=1, description="optimizer steps")
    keep: int = Field(default=3, ge=1, description="the last so many checkpoints stay")
    milestone_every: int | None = Field(default=None, ge=1, description="encoders of these steps stay for ever")
    log_every: int = Field(default=10, ge=1)
    panel_every: int | None = Field(
        default=500, ge=1, description="steps between pictures of the fixed panel; null: none"
    )
    panel_people: int = Field(default=4, ge=1, le=64)
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = ["tensorboard"]

    @model_validator(mode="after")
    def _milestones_are_checkpoints(self) -> LogConfig:
        if self.milestone_every is not None and self.milestone_every % self.checkpoint_every:
            raise ValueError(
                f"milestone_every is {self.milestone_every}, which is no multiple of checkpoint_every "
                f"({self.checkpoint_every}): encoders are kept where there are checkpoints"
            )
        return self


class DistillConfig(JobConfig):
    """Of `distill`."""

    template: ClassVar[str] = "configs/distill-miniature.yaml"
    example: ClassVar[str] = "stage1.seed=7"

    output: str = Field(description="folder of runs, local or a URI; a run is OUTPUT/NAME")
    models: ModelsConfig
    data: StreamConfig
    stage1: RunConfig = RunConfig(stage=original_stage(1))
    stage2: RunConfig = RunConfig(stage=original_stage(2))
    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="of the run")
    stage: Literal[1, 2] = 1
    machines: MachinesConfig = MachinesConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="before")
    @classmethod
    def _over_the_originals(cls, values: Any) -> Any:
        """What a file says of a stage changes the original's values of that stage, not those of the other one."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for stage in (1, 2):
            run = values.get(f"stage{stage}")
            if run is None or isinstance(run, RunConfig):
                continue
            given = run.get("stage") if isinstance(run, dict) else None
            if isinstance(run, dict) and isinstance(given, dict | None):
                whole = merged(asdict(original_stage(stage)), given or {})
                values[f"stage{stage}"] = {**run, "stage": whole}
        return values

    @model_validator(mode="after")
    def _groups(self) -> DistillConfig:
        group = self.run_config.stage.plan.batch
        count = self.machines.samples_per_worker
        if count is not None and count % group:
            raise ValueError(
                f"machines.samples_per_worker is {count}, which is no multiple of the plan's groups of {group} "
                f"(stage{self.stage}.stage.plan.batch)"
            )
        return self

    @property
    def folder(self) -> str:
        """Of the run: a path or a URI."""
        return inside(self.output, self.name)

    @property
    def run_config(self) -> RunConfig:
        """Of the chosen stage."""
        return self.stage1 if self.stage == 1 else self.stage2

    @property
    def samples(self) -> int:
        """Of a worker's batch."""
        return self.machines.samples_per_worker or self.run_config.stage.plan.batch

    def what_it_makes(self) -> dict[str, Any]:
        """Everything a run's weights depend on, but for the number of workers, which a run may change."""
        settings = self.model_dump(mode="json", include={"models", "data", "stage"})
        settings["run"] = self.run_config.model_dump(mode="json")
        settings["samples_per_worker"] = self.samples
        for key in ("threads", "ahead", "cache", "on_bad"):
            settings["data"].pop(key)
        for key in ("compile", "checkpoint_gradients"):
            settings["models"].pop(key)
        return settings


def with_absolute_paths(config: DistillConfig) -> DistillConfig:
    """The same configuration for code that runs in another folder; names of the hub stay as they are."""
    values = config.model_dump(mode="python")
    values["output"] = _absolute(config.output)
    values["data"]["datasets"] = [_absolute(path) for path in config.data.datasets]
    places = [(values["models"], key) for key in MODEL_PLACES]
    for stage in ("stage1", "stage2"):
        places += [(values[stage], "init"), (values[stage]["stage"], "compositions")]
    if config.data.cache is not None:
        values["data"]["cache"] = _absolute(config.data.cache)
    for section, key in places:
        value = section.get(key)
        if isinstance(value, str) and os.path.exists(os.path.expanduser(value)):
            section[key] = _absolute(value)
    return DistillConfig.model_validate(values)


def _absolute(path: str) -> str:
    return path if is_uri(path) else os.path.abspath(os.path.expanduser(path))
