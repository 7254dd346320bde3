"""What an evaluation is made of: one YAML file, one typed tree.

    output, subjects, prompts, generation, methods, measures, report

Here is what can be said of a value by itself; `preflight` looks at what lies on the disk.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from adaface.evaluation.measures_config import (
    KEY_COLUMNS,
    Device,
    FunctionConfig,
    ImageModelConfig,
    JudgeConfig,
    MeasuresConfig,
)
from adaface.evaluation.method_config import (
    ClassWordConfig,
    EncoderMethodConfig,
    EntryPointConfig,
    Guidance,
    MethodConfig,
    Section,
    TeacherConfig,
    falling,
    repeated,
)

__all__ = [
    "KEY_COLUMNS",
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
        if twice := repeated(names or []):
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
        if twice := repeated(sets):
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
    precision: Literal["float32", "float16"] = Field(
        default="float32",
        description="of the networks that draw; float16 is twice as fast or more on GPUs, and other pictures",
    )

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
        if twice := repeated([method.name.lower() for method in methods]):
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
        """What is asked and how it is measured, without the methods, and without where anything lies.

        Runs with equal protocols, and with equal contents at those places, can be compared.
        """
        chosen = self.model_dump(mode="json", include={"subjects", "prompts", "generation", "measures"})
        return _without_paths(_without_speed(chosen))

    def what_it_makes(self) -> dict[str, Any]:
        """The configuration without where the result goes and how fast it is made: equal values, equal results."""
        return _without_speed(self.model_dump(mode="json", exclude={"output"}))


def _without_speed(settings: dict[str, Any]) -> dict[str, Any]:
    for section in (settings["generation"], settings["measures"], settings["measures"]["faces"]):
        for key in _SPEED & section.keys():
            del section[key]
    return settings


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    measures = settings["measures"]
    places = [(settings["subjects"], "folder"), (settings["prompts"], "sets"), (settings["generation"], "base")]
    places += [(measures, "clip"), (measures["faces"], "pack")]
    places += [(judge, "file") for judge in measures["judges"]]
    places += [(encoder, "model") for encoder in measures["image_encoders"].values()]
    for section, key in places:
        section.pop(key, None)
    return settings
