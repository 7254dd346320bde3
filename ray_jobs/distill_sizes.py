"""Whether the pictures and faces of a training's datasets have the sizes of its networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from adaface.model_path import model_path
from adaface.perception.pack import embedding_length, resolve_pack
from data_pipeline.manifest import MANIFEST
from data_pipeline.storage import Storage
from ray_jobs.distill_config import DistillConfig


def size_problems(config: DistillConfig) -> Iterator[str]:
    """One sentence each, of what is on this machine; what is missing has a problem of its own elsewhere."""
    side, size = _side(model_path(config.models.base)), config.data.augment.size
    if side is not None and side != size:
        yield (
            f"data.augment.size is {size} px, but models.base ({config.models.base}) draws {side} px: "
            f"set data.augment.size to {side}"
        )
    layers, weights = _text_layers(model_path(config.models.base)), config.run_config.stage.plan.clip_skip
    if layers is not None and len(weights) > layers + 1:
        yield (
            f"stage{config.stage}.stage.plan.clip_skip weighs {len(weights)} states of the text encoder, and that of "
            f"models.base ({config.models.base}) has {layers + 1}: its {layers} layers and what goes into them"
        )
    try:
        length = embedding_length(resolve_pack(config.models.face_pack).files["recognition"])
    except (ValueError, FileNotFoundError) as error:
        yield f"models.face_pack: {error}"
        return
    for name, there in id_dims(config):
        if length is not None and there != length:
            yield (
                f"data.datasets: the faces of {name} are {there} numbers each, but models.face_pack gives {length}: name "
                "the pack that the dataset was built with"
            )


def id_dims(config: DistillConfig) -> Iterator[tuple[str, int]]:
    """Each finished dataset and the length of its ID embeddings."""
    for name in config.data.datasets:
        if (dataset := Storage(name)).exists(MANIFEST):
            yield name, dataset.read_json(MANIFEST)["id_dim"]


def _text_layers(base: Path) -> int | None:
    file = base / "text_encoder" / "config.json"
    return int(json.loads(file.read_text(encoding="utf-8"))["num_hidden_layers"]) if file.is_file() else None


def _side(base: Path) -> int | None:
    """px of the pictures of a diffusers folder; None where it is not all there."""
    files = [base / part / "config.json" for part in ("unet", "vae")]
    if not all(file.is_file() for file in files):
        return None
    unet, vae = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
