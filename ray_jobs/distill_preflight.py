"""What is wrong with a training's input, before a network is loaded: all problems at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from adaface.distill.compositions import Compositions
from adaface.encoder.files import read_config, read_weights
from adaface.model_path import may_be_on_the_hub, model_path
from data_pipeline.manifest import MANIFEST
from data_pipeline.storage import Storage
from ray_jobs.distill_config import MODEL_PLACES, DistillConfig
from ray_jobs.distill_sizes import id_dims, size_problems
from ray_jobs.fetched import fetched


def problems_of(config: DistillConfig) -> list[str]:
    """One sentence each; empty when the training can begin."""
    models = list(model_problems(config))
    sizes = [] if models else size_problems(config)
    data, init = problems_of_data(config), init_problems(config)
    return [*data, *models, *sizes, *plan_problems(config), *init, *tracker_problems(config)]


def problems_of_data(config: DistillConfig) -> Iterator[str]:
    """Those of the datasets alone."""
    for name in config.data.datasets:
        if not Storage(name).exists(MANIFEST):
            yield f"data.datasets: {name} is no finished dataset (no {MANIFEST}); run build-dataset, or name its output"


def model_problems(config: DistillConfig) -> Iterator[str]:
    """Those of the models' places: nothing is loaded."""
    models = config.models
    unread = () if config.run_config.init is None else ("text_model", "teacher_tokenizer")  # of a new encoder alone
    for key in MODEL_PLACES:
        name = getattr(models, key)
        if name is None or key in unread:
            continue
        try:
            path = model_path(name)
        except ValueError as error:
            yield f"models.{key}: {error}"
            continue
        if not path.exists() and not (may_be_on_the_hub(name) and key != "face_pack"):
            yield f"models.{key}: {name}: there is no such folder; `adaface models` says where models come from"
        elif key == "base" and path.is_file():
            yield (
                f"models.base: {name} is a single file, and training reads a diffusers folder; make one: python -c "
                f"\"from adaface.subjects.generate import load_base; load_base('{name}').save_pretrained('FOLDER')\""
            )
    if config.run_config.stage.plan.sees_photos and models.vision is not None and not config.data.images:
        yield "models.vision looks at pictures, and data.images is false: read them, or leave the background token out"


def plan_problems(config: DistillConfig) -> Iterator[str]:
    """Those of the plan and its compositions."""
    run = config.run_config
    warmup, steps = run.stage.schedule.warmup, run.stage.plan.steps
    if warmup >= steps:
        yield (
            f"stage{config.stage}.stage.schedule.warmup is {warmup:,} of {steps:,} steps (stage.plan.steps): the rate would "
            "never be reached; warm up for fewer"
        )
    try:
        Compositions.load(run.stage.compositions)
    except (ValueError, FileNotFoundError) as error:
        yield f"stage{config.stage}.stage.compositions: {error}"


def init_problems(config: DistillConfig) -> Iterator[str]:
    """Those of the encoder to start from."""
    run = config.run_config
    if run.init is None:
        if config.stage == 2:
            yield "stage2.init is missing: stage 2 goes on from an encoder of stage 1; name its folder"
        return
    try:
        path = model_path(fetched(run.init))
        if not path.exists():
            yield f"stage{config.stage}.init: {run.init}: there is no such encoder folder"
            return
        encoder = read_config(path)
        read_weights(path, encoder)
    except (ValueError, FileNotFoundError) as error:
        yield f"stage{config.stage}.init: {error}"
        return
    copies = set(encoder.multipliers)
    for name, there in id_dims(config):
        if there != encoder.id_dim:
            yield (
                f"stage{config.stage}.init: {run.init} reads faces of {encoder.id_dim} numbers, and those of {name} have "
                f"{there}: take the dataset of the pack that it learned from"
            )
    if any(run.multiplier % one for one in copies):
        yield (
            f"stage{config.stage}.multiplier is {run.multiplier}, but {run.init} has {max(copies)} keys and values per "
            f"token already: copies can be multiplied, not taken away. Ask for {max(copies)} or a multiple of it (the "
            "original's README asks for 4, then 2, which its own code cannot load)"
        )


def tracker_problems(config: DistillConfig) -> Iterator[str]:
    """Packages of trackers that are not installed, and what they need to write to an object store."""
    packages = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
    for name in config.log.trackers:
        if importlib.util.find_spec(packages[name]) is None:
            yield f"log.trackers: {name} needs the package {packages[name]}; pip install 'adaface[trackers]', or leave it out"
    stores = {"s3": ("boto3", "boto3"), "gs": ("google.cloud.storage", "google-cloud-storage")}
    scheme, _, place = config.output.partition("://")
    if "tensorboard" not in config.log.trackers or not place or scheme not in stores:
        return
    module, package = stores[scheme]
    if not _is_installed(module):
        yield f"log.trackers: tensorboard writes to {scheme}:// by {package}; pip install {package}, or leave it out"
    if "?" in place:
        yield (
            "log.trackers: tensorboard does not read what stands behind the ? in output; set AWS_ENDPOINT_URL "
            "instead, or leave tensorboard out"
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False
