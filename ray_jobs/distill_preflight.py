"""What is wrong with a training's input, before a network is loaded: all problems at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from adaface.distill.compositions import Compositions
from adaface.encoder.files import read_config
from adaface.model_path import model_path
from data_pipeline.manifest import MANIFEST
from data_pipeline.storage import Storage
from ray_jobs.distill_config import DistillConfig
from ray_jobs.distill_sizes import size_problems
from ray_jobs.fetched import fetched


def problems_of(config: DistillConfig) -> list[str]:
    """One sentence each; empty when the training can begin."""
    models = list(_models(config))
    sizes = [] if models else size_problems(config)
    return [*problems_of_data(config), *models, *sizes, *_run(config), *_trackers(config)]


def problems_of_data(config: DistillConfig) -> Iterator[str]:
    """Those of the datasets alone."""
    for name in config.data.datasets:
        if not Storage(name).exists(MANIFEST):
            yield f"data.datasets: {name} is no finished dataset (no {MANIFEST}); run build-dataset, or name its output"


def _models(config: DistillConfig) -> Iterator[str]:
    models = config.models
    for key in (
        "base",
        "teacher_unet",
        "teacher_text",
        "teacher_tokenizer",
        "text_model",
        "clip",
        "vision",
        "face_pack",
    ):
        name = getattr(models, key)
        if name is None:
            continue
        try:
            path = model_path(name)
        except ValueError as error:
            yield f"models.{key}: {error}"
            continue
        on_the_hub = name.count("/") == 1 and not name.startswith((".", "/", "~")) and key != "face_pack"
        if not path.exists() and not on_the_hub:
            yield f"models.{key}: {name}: there is no such folder; `adaface models` says where models come from"
        elif key == "base" and path.is_file():
            yield (
                f"models.base: {name} is a single file, and training reads a diffusers folder; make one: python -c "
                f"\"from adaface.subjects.generate import load_base; load_base('{name}').save_pretrained('FOLDER')\""
            )
    if config.stage == 2 and models.vision is not None and not config.data.images:
        yield "models.vision looks at pictures, and data.images is false: read them, or leave the background token out"


def _run(config: DistillConfig) -> Iterator[str]:
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
    if run.init is None:
        if config.stage == 2:
            yield "stage2.init is missing: stage 2 goes on from an encoder of stage 1; name its folder"
        return
    try:
        path = model_path(fetched(run.init))
        if not path.exists():
            yield f"stage{config.stage}.init: {run.init}: there is no such encoder folder"
            return
        copies = set(read_config(path).multipliers)
    except (ValueError, FileNotFoundError) as error:
        yield f"stage{config.stage}.init: {error}"
        return
    if any(run.multiplier % one for one in copies):
        yield (
            f"stage{config.stage}.multiplier is {run.multiplier}, but {run.init} has {max(copies)} keys and values per "
            f"token already: copies can be multiplied, not taken away. Ask for {max(copies)} or a multiple of it (the "
            "original's README asks for 4, then 2, which its own code cannot load)"
        )


def _trackers(config: DistillConfig) -> Iterator[str]:
    packages = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
    for name in config.log.trackers:
        if importlib.util.find_spec(packages[name]) is None:
            yield f"log.trackers: {name} needs the package {packages[name]}; pip install 'adaface[trackers]', or leave it out"
