"""What the perception models are and how they are run: the `perception:` section of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from adaface.perception.classes import CLASS_NAMES


class BiSeNetConfig(BaseModel):
    """A BiSeNet state dict with the names of zllrunning/face-parsing.PyTorch (`79999_iter.pth`), of any width."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["bisenet"] = "bisenet"
    file: str = Field(description="state dict: .pth (read without executing pickles) or .safetensors")
    side: int = Field(
        default=512,
        ge=32,
        le=2048,
        multiple_of=32,
        description="side the picture is squeezed to for the network, px; 512 is what the published one was trained at",
    )


class OnnxParserConfig(BaseModel):
    """Any ONNX segmenter of one input (1 or N, 3, H, W) and one output (N, channels, H, W)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["onnx"] = "onnx"
    file: str
    channels: list[str] = Field(description="face-parsing class of each output channel, in order", min_length=1)
    threshold: float | None = Field(
        default=None,
        description="a pixel whose highest score is below this is background; null: plain argmax over the channels",
    )
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @field_validator("channels")
    @classmethod
    def _known_classes(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in CLASS_NAMES]
        if unknown:
            raise ValueError(f"unknown face-parsing classes {unknown}; the known ones are {list(CLASS_NAMES)}")
        return names

    @model_validator(mode="after")
    def _background_reachable(self) -> OnnxParserConfig:
        if self.threshold is None and "background" not in self.channels:
            raise ValueError("without a `background` channel set `threshold`, or no pixel could ever be background")
        return self


ParserConfig = Annotated[BiSeNetConfig | OnnxParserConfig, Field(discriminator="kind")]


class PerceptionConfig(BaseModel):
    """Detector, ID embedding and face parser.

    Two builds with equal `PerceptionConfig` and equal model files give equal features, except for
    `device`, `threads` and `batch_size`, which say how fast, not what.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pack: str = Field(
        description="folder of an insightface model pack (.onnx files, also one level down), or package://PACKAGE/FOLDER"
    )
    recognition_file: str | None = Field(
        default=None, description="file in the pack to embed with, where it holds several (e.g. arcface.onnx)"
    )
    detector_sizes: tuple[int, ...] = Field(
        default=(640, 320, 160),
        min_length=1,
        description="sides of the detector input, tried in order until a face is found",
    )
    border: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="border added on each side, as a share of that side, for a last retry; 0: none",
    )
    detection_threshold: float = Field(default=0.5, gt=0, lt=1)
    attributes: bool = Field(default=True, description="estimate gender and age where the pack has a model for it")
    parser: ParserConfig | None = Field(default=None, description="face parser; null: no masks")
    batch_size: int = Field(default=16, ge=1, description="images per forward pass of recogniser and parser")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1, description="CPU threads of one worker's models")

    @field_validator("detector_sizes")
    @classmethod
    def _multiples_of_32(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        bad = [size for size in sizes if size <= 0 or size % 32]
        if bad:
            raise ValueError(f"detector sizes must be positive multiples of 32, got {bad}")
        return sizes

    def what_it_computes(self) -> dict:
        """The part of the configuration that changes results (hashed), without what only changes speed.

        Paths are left out too: the model files enter the hash by their sha256.
        """
        settings = self.model_dump(exclude={"pack", "batch_size", "device", "threads"})
        if settings["parser"]:
            settings["parser"].pop("file")
        return settings
