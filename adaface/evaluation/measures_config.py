"""What pictures are measured with: the section `measures` of an evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from adaface.evaluation.method_config import Function, Section, repeated
from adaface.perception.config import PerceptionConfig

Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
# Names become columns.
Column = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]

# What the table of scores says of each picture before its metrics; an image encoder's name is a column beside them.
KEY_COLUMNS = ("method", "subject", "prompt_id", "category", "k", "seed", "prompt", "file", "faces")


class JudgeConfig(Section):
    """A second recogniser, which embeds the faces that the detector of `faces` found and aligned."""

    name: Column
    file: str = Field(description=".onnx of an ArcFace-like recogniser, or package://PACKAGE/PATH")
    used_in_training: bool | None = Field(
        default=None, description="whether an encoder was trained with it, as the report says; null: it is not said"
    )


class FunctionConfig(Section):
    """A model of one's own: `callable(**settings)` gives an object that takes a list of RGB uint8 pictures."""

    entry_point: Function = Field(description="package.module:callable")
    settings: dict[str, Any] = Field(default={})


class ImageModelConfig(Section):
    """A vision transformer of the hub or a folder; the CLS token of its last layer is the feature."""

    model: str = Field(description="folder, package://... or hub id, e.g. facebook/dino-vits16")


def _kind_of_encoder(value: Any) -> str:
    given = value if isinstance(value, dict) else vars(value) if isinstance(value, BaseModel) else {}
    return "entry_point" if "entry_point" in given else "model"


ImageEncoderConfig = Annotated[
    Annotated[ImageModelConfig, Tag("model")] | Annotated[FunctionConfig, Tag("entry_point")],
    Discriminator(_kind_of_encoder),
]


class MeasuresConfig(Section):
    """What pictures are measured with."""

    metrics: list[str] | None = Field(
        default=None, min_length=1, description="names of metrics; null: all that the models below allow"
    )
    # before `faces`, which takes them over
    device: Device = "auto"
    batch: int = Field(default=16, ge=1, le=1024, description="pictures per forward pass")
    threads: int = Field(default=1, ge=1, description="CPU threads of the models")
    faces: PerceptionConfig = Field(
        description="face detector and first recogniser; device, batch and threads are those above unless it says its own"
    )
    first: Column = Field(default="pack", description="name of the first recogniser in tables")
    judges: list[JudgeConfig] = Field(default=[], description="further recognisers, one of them not used in training")
    clip: str | None = Field(default=None, description="CLIP for text and images: folder, package://... or hub id")
    image_encoders: dict[Column, ImageEncoderConfig] = Field(
        default={}, description="by column name, e.g. dino: {model: facebook/dino-vits16}"
    )
    scene_classifier: FunctionConfig | None = Field(
        default=None, description="sees what a prompt `expects`: callable(pictures) -> {factor: words}"
    )
    mode: Literal["default", "parity"] = Field(
        default="default", description="parity: also the original's own numbers, with its flaws"
    )
    bootstrap: int = Field(default=2000, ge=100, le=100_000, description="draws of subjects for intervals")

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[str] | None) -> list[str] | None:
        if twice := repeated(metrics or []):
            raise ValueError(f"named twice: {', '.join(twice)}")
        return metrics

    @field_validator("faces")
    @classmethod
    def _run_as_all_measures(cls, faces: PerceptionConfig, info: ValidationInfo) -> PerceptionConfig:
        """Here and not where they are used: a dump that is read again says every value itself."""
        general: dict[str, Any] = {"batch_size": info.data.get("batch"), "threads": info.data.get("threads")}
        device = str(info.data.get("device")).partition(":")[0]  # onnxruntime knows neither mps nor a GPU's number
        general["device"] = device if device in ("auto", "cuda") else "cpu"
        return faces.model_copy(
            update={name: value for name, value in general.items() if name not in faces.model_fields_set}
        )

    @model_validator(mode="after")
    def _consistent(self) -> MeasuresConfig:
        problems = []
        if self.faces.parser is not None:
            problems.append("`faces.parser` is not used here; leave it out")
        if twice := repeated([self.first, *(judge.name for judge in self.judges)]):
            problems.append(f"several recognisers are called {', '.join(twice)}; give each its own name")
        if "clip" in self.image_encoders:
            problems.append("`image_encoders` cannot have one called clip; that column is the one of `clip`")
        if taken := [name for name in self.image_encoders if name in KEY_COLUMNS]:
            problems.append(
                f"`image_encoders` cannot have one called {', '.join(taken)}: the table of scores has such a column already"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def recognisers(self) -> list[str]:
        """Their names, the first one first."""
        return [self.first, *(judge.name for judge in self.judges)]
