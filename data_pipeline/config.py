"""What a dataset is made of and which images enter it: the `data:` section of a configuration.

Every rule is one number; null switches it off. `profile` fills in the numbers that are not given:

- `original`: exactly what the published preparation did (class counts, one face found, cosine 0.65 to the plain mean);
- `strict`: the default for new datasets, everything below with a threshold.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The thresholds of the two profiles; keys are fields of DataConfig. reference: filter_faces.py and gen_face_masks.py
# of the original for `original`.
PROFILES: dict[str, dict[str, Any]] = {
    "original": {
        "resize": "squeeze",
        "identity_centre": "mean",
        "min_side": None,
        "min_parts": 10,
        "max_parts": 17,
        "max_second_face": None,
        "min_det_score": None,
        "min_embedding_norm": None,
        "min_face": None,
        "max_yaw": None,
        "max_pitch": None,
        "max_roll": None,
        "min_sharpness": None,
        "max_clipped": None,
        "min_face_seen": None,
        "min_identity_similarity": 0.65,
        "drop_exact_duplicates": False,
        "near_duplicate_bits": None,
        "near_duplicate_similarity": None,
        "min_identity_images": None,
        "min_identity_det_score": None,
        "merged_identity_similarity": None,
        "eval_leak_similarity": None,
    },
    "strict": {
        "resize": "crop",
        "identity_centre": "robust",
        "min_side": 256,
        "min_parts": 10,
        "max_parts": 17,
        "max_second_face": 0.5,
        "min_det_score": 0.55,
        "min_embedding_norm": None,
        "min_face": 64,
        "max_yaw": 60.0,
        "max_pitch": 45.0,
        "max_roll": 60.0,
        "min_sharpness": 15.0,
        "max_clipped": 0.4,
        "min_face_seen": 0.3,
        "min_identity_similarity": 0.65,
        "drop_exact_duplicates": True,
        "near_duplicate_bits": 4,
        "near_duplicate_similarity": 0.98,
        "min_identity_images": 3,
        "min_identity_det_score": 0.7,
        "merged_identity_similarity": 0.6,
        "eval_leak_similarity": 0.4,
    },
}


class SourceConfig(BaseModel):
    """One folder of photos, local or in an object store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="folder, or s3://, gs:// URI")
    layout: Literal["identities", "flat", "pairs"] = Field(
        default="identities",
        description="identities: one sub-folder per person; flat: everyone in one folder, identity unknown; "
        "pairs: identity folders of NAME.ext with NAME_mask.png, whose masks are used instead of the parser's",
    )
    name: str | None = Field(default=None, description="short name in tables; default: the folder's name")
    licence: str = Field(default="unknown", description="recorded with every sample")
    max_per_identity: int | None = Field(
        default=None, ge=1, description="keep the first N images of each identity, by path"
    )

    @property
    def label(self) -> str:
        path = self.path.partition("?")[0] if "://" in self.path else self.path
        return self.name or path.rstrip("/").rsplit("/", 1)[-1]

    @model_validator(mode="after")
    def _has_a_name(self) -> SourceConfig:
        # The label is the first part of an identity's name, "<source>/<folder>", and a folder of exported pairs.
        if self.name == "" or "/" in self.label or self.label in ("", ".", ".."):
            raise ValueError(f"{self.label!r} cannot name a source; give {self.path} another `name`, without a slash")
        return self


class DataConfig(BaseModel):
    """The `data:` section."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: list[SourceConfig] = Field(min_length=1)
    output: str = Field(description="dataset folder to make or continue, local or a URI; never inside a source")
    profile: Literal["strict", "original"] = "strict"
    seed: int = Field(default=0, ge=0, description="seed of the hash that orders samples")
    limit: int | None = Field(default=None, ge=1, description="stop after this many images (a dry run)")
    image_size: int = Field(default=512, ge=32, le=2048, multiple_of=8, description="side of samples and masks, px")
    resize: Literal["crop", "squeeze"] = Field(
        description="crop: the largest square around the face; squeeze: the whole image, aspect not kept"
    )
    part_size: int = Field(
        default=64, ge=1, le=4096, description="most images per feature file: the unit of work and of resume"
    )
    shard_size: int = Field(default=1000, ge=1, le=100_000, description="most samples per shard")
    split: str = Field(default="train", pattern=r"^[a-z0-9_]+$", description="prefix of the shard files")
    max_pixels: int = Field(
        default=100_000_000, ge=1, le=178_956_970, description="larger images are refused before they are decoded"
    )
    max_bytes: int = Field(default=200_000_000, ge=1, description="larger files are refused before they are read")

    # rules on one image
    min_side: int | None = Field(ge=1, description="shorter side of the image, px -> too_small")
    min_parts: int | None = Field(ge=0, le=19, description="distinct face-parsing classes -> too_few_parts")
    max_parts: int | None = Field(ge=0, le=19, description="distinct face-parsing classes -> too_many_parts")
    max_second_face: float | None = Field(gt=0, le=1, description="area of the second face / the first -> multi_face")
    min_det_score: float | None = Field(ge=0, le=1, description="detector score -> low_det_score")
    min_embedding_norm: float | None = Field(ge=0, description="norm before normalisation -> low_embedding_norm")
    min_face: int | None = Field(
        ge=1, description="shorter side of the face, px of the sample or the source, the less -> small_face"
    )
    max_yaw: float | None = Field(ge=0, le=180, description="degrees -> extreme_pose")
    max_pitch: float | None = Field(ge=0, le=180, description="degrees -> extreme_pose")
    max_roll: float | None = Field(ge=0, le=180, description="degrees -> extreme_pose")
    min_sharpness: float | None = Field(ge=0, description="variance of the Laplacian of the aligned face -> blurry")
    max_clipped: float | None = Field(
        ge=0, le=1, description="share of the face that is plain white or plain black -> bad_exposure"
    )
    min_face_seen: float | None = Field(
        ge=0, le=1, description="share of the face box where the parser sees a face -> occluded"
    )

    # rules across images
    identity_centre: Literal["robust", "mean"] = Field(description="how the mean embedding of an identity is found")
    min_identity_similarity: float | None = Field(
        ge=-1, le=1, description="cosine to the own mean -> identity_outlier"
    )
    drop_exact_duplicates: bool = Field(description="keep one of byte-equal images -> duplicate_exact")
    near_duplicate_bits: int | None = Field(
        ge=0, le=64, description="phash distance inside an identity -> duplicate_near"
    )
    near_duplicate_similarity: float | None = Field(
        ge=0, le=1, description="cosine of two images across identities -> duplicate_near"
    )
    min_identity_det_score: float | None = Field(
        ge=0, le=1, description="median detector score of an identity's faces -> identity_not_a_face"
    )
    min_identity_images: int | None = Field(ge=1, description="images left of an identity -> identity_too_small")
    merged_identity_similarity: float | None = Field(ge=-1, le=1, description="cosine of two means -> identity_merged")
    eval_leak_similarity: float | None = Field(
        ge=-1, le=1, description="cosine to an evaluation mean -> eval_identity_leak"
    )
    eval_identities: list[str] = Field(
        default=[],
        description="mean embeddings that must not be in the data: .npy, .safetensors, .pt, identities.parquet; globs",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_profile(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        profile = values.get("profile", "strict")
        # An unknown profile is one problem, reported by its own field, and not one for every number it does not give.
        defaults = PROFILES.get(profile if isinstance(profile, str) else "strict", PROFILES["strict"])
        return {**defaults, **values}

    @model_validator(mode="after")
    def _labels_differ(self) -> DataConfig:
        labels = [source.label for source in self.sources]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"several sources are called {twice}; give each its own `name`")
        return self
