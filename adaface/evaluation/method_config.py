"""What draws: one section for each kind of method, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Names become folders, column names and keys of JSON.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
Function = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
Guidance = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class Section(BaseModel):
    """Unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def falling(guidance: tuple[float, float]) -> tuple[float, float]:
    """The scales themselves. Raises ValueError for a scale that could not go from the first to the last."""
    first, last = guidance
    if first <= 1 and last != first:
        raise ValueError(f"cannot go from {first:g} to {last:g}: start above 1")
    return guidance


def repeated(names: list[str]) -> list[str]:
    """Those that are there more than once."""
    return sorted({name for name in names if names.count(name) > 1})


class ClassWordConfig(Section):
    """The plain base model, with the class word for the subject: what a stranger looks like, and the best text gets."""

    kind: Literal["class_word"]
    name: Name = "class-word"


class TeacherConfig(Section):
    """Arc2Face: its own UNet and text encoder. It knows the face and cannot read prompts."""

    kind: Literal["teacher"]
    name: Name = "teacher"
    unet: str = Field(description="folder or hub id of the teacher's UNet, also FOLDER/SUBFOLDER")
    text_encoder: str = Field(description="folder or hub id of the teacher's text encoder, also FOLDER/SUBFOLDER")
    tokenizer: str | None = Field(default=None, description="folder or hub id; null: the base's")
    guidance: Guidance | None = Field(default=None, description="null: as all methods")

    @field_validator("guidance")
    @classmethod
    def _can_fall(cls, guidance: tuple[float, float] | None) -> tuple[float, float] | None:
        return guidance and falling(guidance)


class EncoderMethodConfig(Section):
    """An AdaFace encoder in the base model."""

    kind: Literal["encoder"]
    name: Name
    path: str | list[str] = Field(
        description="encoder folder, package://..., hub id, or a folder of checkpoints: the newest then; or several "
        "such folders on this machine: the one that was written last"
    )
    id_scale: float = Field(default=1.0, gt=0, description="over 1 exaggerates the person")
    noise: float = Field(default=0.0, ge=0, description="on the ID embedding, in units of its spread")

    @field_validator("path")
    @classmethod
    def _several_are_folders(cls, path: str | list[str]) -> str | list[str]:
        if isinstance(path, list):
            if not path:
                raise ValueError("name a folder")
            if far := [folder for folder in path if "://" in folder]:
                raise ValueError(
                    f"several are told apart by when they were written, which a copy of {far[0]} does not say; name it alone"
                )
        return path


class EntryPointConfig(Section):
    """A method of one's own: `factory(**settings)` gives an object like those of adaface.evaluation.methods."""

    kind: Literal["entry_point"]
    name: Name
    entry_point: Function = Field(description="package.module:factory")
    settings: dict[str, Any] = {}


MethodConfig = Annotated[
    ClassWordConfig | TeacherConfig | EncoderMethodConfig | EntryPointConfig, Field(discriminator="kind")
]
