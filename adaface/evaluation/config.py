"""What an evaluation is made of: one YAML file, one typed tree.

    output, subjects, prompts, generation, methods, measures, report

Here is what can be said of a value by itself; `preflight` looks at what lies on the disk.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from adaface.evaluation.method_config import (
    ClassWordConfig,
    EncoderMethodConfig,
    EntryPointConfig,
    Function,
    Guidance,
    MethodConfig,
    Section,
    TeacherConfig,
    falling,
)
from adaface.perception.config import PerceptionConfig

__all__ = [
    "ClassWordConfig",
    "EncoderMethodConfig",
    "EntryPointConfig",
    "EvaluationConfig",
    "FunctionConfig",
    "GenerationConfig",
    "ImageModelConfig",
    "JudgeConfig",
    "MeasuresConfig",
    "MethodConfig",
    "PromptsConfig",
    "ReportConfig",
    "SubjectInfo",
    "SubjectsConfig",
    "TeacherConfig",
]

Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
# Names become columns.
Column = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]

# Keys that say how fast and on what, not what comes out.
_SPEED = {"device", "batch", "batch_size", "threads"}


class SubjectInfo(Section):
    """What a folder is about, where its metainfo.json does not say it or says it wrongly."""

    person_type: str = Field(min_length=1, description="e.g. young woman, man, dog")
    class_word: str | None = Field(
        default=None, min_length=1, description="what prompts say instead of the subject; default: the person type"
    )


class SubjectsConfig(Section):
    """Whose pictures are drawn."""

    folder: str = Field(description="folder with one sub-folder of photos per subject")
    names: list[str] | None = Field(default=None, min_length=1, description="sub-folders to take; null: all")
    info: dict[str, SubjectInfo] | None = Field(default=None, description="by name of the sub-folder")
    given: int | None = Field(
        default=None,
        ge=1,
        description="the first so many photos by name are shown to the methods, the others are held back for the "
        "copy-paste guard; null: all are shown",
    )
    max_photos: int | None = Field(default=None, ge=1, description="take the first so many photos by name")
    reference_side: int | None = Field(
        default=None,
        ge=16,
        description="photos are scaled down to this shorter side, px, before they are measured, so that pictures of "
        "a small generator are not compared with large photos; null: as they are",
    )
    mean_embedding: bool = Field(
        default=False,
        description="methods get the embedding in mean_emb.npy, .safetensors or .pt of each folder instead of those of "
        "its photos; it must come from the recogniser of `measures.faces`",
    )

    @field_validator("names")
    @classmethod
    def _each_once(cls, names: list[str] | None) -> list[str] | None:
        if twice := _repeated(names or []):
            raise ValueError(f"named twice: {', '.join(twice)}")
        return names


class PromptsConfig(Section):
    """What is asked for."""

    sets: list[str] = Field(
        default=["live", "community"],
        min_length=1,
        description="live, community, grid, or files: .yaml, or text with one prompt a line; package://PACKAGE/PATH",
    )
    limit: int | None = Field(
        default=None, ge=1, description="take so many prompts in all, evenly from the categories (a small run)"
    )
    placement: str = Field(
        default="{}", description="what stands in a prompt for the subject {}, e.g. `face portrait of {}`"
    )

    @field_validator("sets")
    @classmethod
    def _each_once(cls, sets: list[str]) -> list[str]:
        if twice := _repeated(sets):
            raise ValueError(f"named twice: {', '.join(twice)}")
        return sets

    @field_validator("placement")
    @classmethod
    def _has_the_subject(cls, placement: str) -> str:
        if placement.count("{}") != 1:
            raise ValueError(f"must hold the subject as {{}} once, e.g. 'face portrait of {{}}', not {placement!r}")
        return placement


def _original_negative() -> str:
    from adaface.subjects.prompt_states import ORIGINAL_NEGATIVE

    return ORIGINAL_NEGATIVE


class GenerationConfig(Section):
    """How all methods draw: the original's evaluation by default (its stable_txt2img.py). The sampler is DDIM, eta 0."""

    base: str = Field(description="Stable Diffusion 1.5 or a relative: folder, package://..., single file, hub id")
    images_per_prompt: int = Field(default=4, ge=1, le=1000)
    steps: int = Field(default=50, ge=1, le=1000)
    guidance: Guidance = Field(default=(4.0, 1.0), description="scale at the first and the last step")
    negative_prompt: str | None = Field(
        default_factory=_original_negative, description="default: the original's; null: none"
    )
    clip_skip_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        default=(1.0, 1.0),
        min_length=1,
        description="weights of the last layers of the text encoder, the last for the last; null: the last alone",
    )
    seed: int = Field(default=42, ge=0, lt=2**63, description="enters the hash that gives each picture its seed")
    batch: int = Field(default=4, ge=1, le=1024, description="pictures drawn at once, and kept or lost together")
    width: int | None = Field(default=None, ge=8, multiple_of=8, description="px; null: the base's own")
    height: int | None = Field(default=None, ge=8, multiple_of=8, description="px; null: the base's own")
    device: Device = "auto"

    @field_validator("guidance")
    @classmethod
    def _can_fall(cls, guidance: tuple[float, float]) -> tuple[float, float]:
        return falling(guidance)

    @field_validator("clip_skip_weights")
    @classmethod
    def _not_all_zero(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is not None and sum(weights) <= 0:
            raise ValueError("must not all be 0; write null for the last layer alone")
        return weights


class JudgeConfig(Section):
    """A second recogniser, which embeds the faces that the detector of `faces` found and aligned."""

    name: Column
    file: str = Field(description=".onnx of an ArcFace-like recogniser, or package://PACKAGE/PATH")
    used_in_training: bool = Field(
        default=False, description="whether an encoder was trained with it; the report says so"
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
    faces: PerceptionConfig = Field(description="face detector and first recogniser")
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
    device: Device = "auto"
    batch: int = Field(default=16, ge=1, le=1024, description="pictures per forward pass")
    threads: int = Field(default=1, ge=1, description="CPU threads of the models")

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[str] | None) -> list[str] | None:
        if twice := _repeated(metrics or []):
            raise ValueError(f"named twice: {', '.join(twice)}")
        return metrics

    @model_validator(mode="after")
    def _consistent(self) -> MeasuresConfig:
        problems = []
        if self.faces.parser is not None:
            problems.append("`faces.parser` is not used here; leave it out")
        if twice := _repeated([self.first, *(judge.name for judge in self.judges)]):
            problems.append(f"several recognisers are called {', '.join(twice)}; give each its own name")
        if "clip" in self.image_encoders:
            problems.append("`image_encoders` cannot have one called clip; that column is the one of `clip`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def recognisers(self) -> list[str]:
        """Their names, the first one first."""
        return [self.first, *(judge.name for judge in self.judges)]


class ReportConfig(Section):
    """What the page shows."""

    title: str = Field(default="Evaluation", min_length=1)
    grid_subjects: int = Field(default=4, ge=0, le=100, description="subjects in the picture grids")
    grid_prompts: int = Field(default=6, ge=0, le=100, description="prompts in the picture grids")
    cases: int = Field(default=8, ge=0, le=100, description="best and worst pictures shown, each")


class EvaluationConfig(Section):
    """A configuration file of an evaluation."""

    output: str = Field(description="folder to make or continue, local or a URI")
    subjects: SubjectsConfig
    prompts: PromptsConfig = PromptsConfig()
    generation: GenerationConfig
    methods: list[MethodConfig] = Field(min_length=1)
    measures: MeasuresConfig
    report: ReportConfig = ReportConfig()

    @field_validator("methods")
    @classmethod
    def _names_differ(cls, methods: list[Any]) -> list[Any]:
        # a file system may not tell upper from lower case
        if twice := _repeated([method.name.lower() for method in methods]):
            raise ValueError(f"several methods are called {', '.join(twice)}; give each its own `name`")
        return methods

    @property
    def baseline(self) -> str | None:
        """The name of the first class-word method, which the others are compared with."""
        return next((method.name for method in self.methods if method.kind == "class_word"), None)

    @property
    def teacher(self) -> str | None:
        """The name of the first teacher method."""
        return next((method.name for method in self.methods if method.kind == "teacher"), None)

    def protocol(self) -> dict[str, Any]:
        """What is asked and how it is measured, without the methods: runs with equal protocols can be compared."""
        chosen = self.model_dump(mode="json", include={"subjects", "prompts", "generation", "measures"})
        return _without_speed(chosen)

    def what_it_makes(self) -> dict[str, Any]:
        """The configuration without where the result goes and how fast it is made: equal values, equal results."""
        return _without_speed(self.model_dump(mode="json", exclude={"output"}))


def _without_speed(settings: dict[str, Any]) -> dict[str, Any]:
    for section in (settings["generation"], settings["measures"], settings["measures"]["faces"]):
        for key in _SPEED & section.keys():
            del section[key]
    return settings


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
