"""What each worker of a training run does: build, resume, step, report.

A step counts when the checkpoint after it is whole. At a checkpoint, in this order:

1. every worker writes its rows of the log since the last one (distill_log.py);
2. rank 0 writes encoder, optimizer and place in the stream to a folder of its own, and a milestone where one is due;
3. all report to Ray Train, which uploads the folder while training goes on, and lists it when it is there.

After a crash the list is looked through for what is not whole (whole_checkpoints.py), workers begin from the last of it,
and forget rows of the log that are newer: they will be written again, the same ones.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adaface.distill.background import BackgroundFeatures
from adaface.distill.checkpoint import load_checkpoint, save_checkpoint
from adaface.distill.clip_score import ClipScore
from adaface.distill.compositions import Compositions
from adaface.distill.contexts import checkpoint_gradients
from adaface.distill.draws import numpy_generator
from adaface.distill.features import cross_attentions
from adaface.distill.initial_encoder import initial_encoder
from adaface.distill.models import load_frozen
from adaface.distill.origins import origins_of
from adaface.distill.panel import Panel
from adaface.distill.task import DistillTask
from adaface.distill.trainer import StepReport, Trainer
from data_pipeline.batches import Batches
from data_pipeline.storage import Storage
from data_pipeline.stream import TrainingStream
from ray_jobs.config_file import config_hash
from ray_jobs.distill_config import DistillConfig
from ray_jobs.distill_log import RunLog
from ray_jobs.fetched import fetched
from ray_jobs.runtime import quiet_model_loading
from ray_jobs.same_run import LASTING_FAILURE

_PANEL_DRAWS = 1000  # among which the people of the panel are looked for
log = logging.getLogger(__name__)


def train(settings: Mapping[str, Any]) -> None:
    """The training function of Ray Train; `settings`: {"config": a DistillConfig as plain values}.

    What would go wrong again is left in LASTING_FAILURE, and workers that find it there return: an exception is all that
    Ray Train starts them again for, as often as it may. The job raises it instead.
    """
    import ray.train

    config = DistillConfig.model_validate(settings["config"])
    out = Storage(config.folder)
    if out.exists(LASTING_FAILURE):
        return
    try:
        _train(config, out)
    except (ValueError, FloatingPointError) as error:
        # the same data and numbers would bring it here again, after hours perhaps
        out.write_json(LASTING_FAILURE, {"error": str(error)})
        if ray.train.get_context().get_world_size() > 1:
            raise  # the others wait for this one; started once more, all of them find the file


def _train(config: DistillConfig, out: Storage) -> None:
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    quiet_model_loading("transformers", "diffusers")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_says_more_than_reported)
    torch.set_num_threads(config.machines.threads)
    device = ray.train.torch.get_device()
    choose_arithmetic(config, device)
    run, origins = config_hash(config), origins_of(_init(config), config.run_config.stage.compositions)

    try:
        trainer = build_trainer(config, device, rank, world)
    except FileNotFoundError as error:  # a model that this machine does not have: it will not come by trying
        raise ValueError(str(error)) from error
    if rank == 0:
        log.info("%s: matrix products in %s", device, trainer.task.models.precision)
    with (
        TrainingStream(
            config.data, seed=config.run_config.seed, rank=rank, world_size=world, block=config.samples
        ) as stream,
        Batches(stream, config.samples, pin_for=device if device.type == "cuda" else None) as batches,
    ):
        trainer.samples = lambda: next(batches)
        found = ray.train.get_checkpoint()
        if found is not None:
            with found.as_directory() as folder:
                batches.load_state(load_checkpoint(Path(folder), trainer, run=run, origins=origins))
            log.info("goes on after step %d", trainer.number)
        if rank == 0:
            for left in Path(tempfile.gettempdir()).glob(f"{_prefix(config)}*"):  # of a worker that was killed
                shutil.rmtree(left, ignore_errors=True)
        panel = choose_panel(config, stream) if rank == 0 and _has_panel(config) else None
        with RunLog(config, out, trainer, rank, world, panel, batches.skipped) as written:
            while not trainer.finished:
                report = trainer.step()
                written.step(report, batches.skipped)
                _tell(config, trainer, batches, written, report, rank, run, origins)


def choose_arithmetic(config: DistillConfig, device: torch.device) -> None:
    """For all of the process: exact repetition where it is asked for, and TF32 for float32 products on GPUs."""
    asked = config.machines.deterministic
    torch.use_deterministic_algorithms(device.type == "cpu" if asked is None else asked, warn_only=True)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def build_trainer(config: DistillConfig, device: torch.device, rank: int, world: int) -> Trainer:
    """Networks, encoder and optimizer of a worker, as they are before the first step; the samples come later."""
    plan = config.run_config.stage.plan
    models = load_frozen(
        config.models.base,
        config.models.teacher_unet,
        device=device,
        precision=config.models.precision,
        vae=config.data.latents is None or plan.composes or _has_panel(config),
    )
    if config.models.checkpoint_gradients:
        checkpoint_gradients(models.unet)
    if config.models.compile:
        models.compiled = torch.compile(models.unet)
    # distillation has no background token
    uses_background = plan.sees_photos and config.models.vision
    background = BackgroundFeatures(str(config.models.vision), device) if uses_background else None
    encoder = initial_encoder(
        init=_init(config),
        multiplier=config.run_config.multiplier,
        teacher_text=config.models.teacher_text,
        text_model=config.models.text_model,
        tokenizer=config.models.teacher_tokenizer or models.tokenizer,
        face_pack=config.models.face_pack,
        seed=config.run_config.seed,
        background=background,
        unet_layers=len(cross_attentions(models.unet)),
    ).to(device)
    clip = None
    if plan.composes and config.models.clip:
        clip = ClipScore(config.models.clip, device)
    task = DistillTask(
        models, encoder, config.run_config.stage, seed=config.run_config.seed, clip=clip, background=background
    )
    return Trainer(
        task,
        count=config.samples,
        rank=rank,
        wrap=lambda inner: _wrapped(inner) if world > 1 else inner,
    )


def _init(config: DistillConfig) -> str | None:
    """The encoder that the run begins with, on this machine."""
    return config.run_config.init and fetched(config.run_config.init)


def _says_more_than_reported(record: logging.LogRecord) -> bool:
    """Ray tells of every report, by a logger that is named after a file of its own; the run's own lines say more."""
    return not record.getMessage().startswith("Reporting training result")


def _wrapped(task: DistillTask) -> nn.Module:
    # all batches use all of the encoder, but for its background generator, which some kinds do without
    some_unused = task.encoder.background is not None
    # without `device_ids`, which would have whole batches copied to the device, waiting for each: the task copies what it uses
    return nn.parallel.DistributedDataParallel(task, find_unused_parameters=some_unused)


def _has_panel(config: DistillConfig) -> bool:
    return config.log.panel_every is not None and config.data.images


def choose_panel(config: DistillConfig, stream: TrainingStream) -> Panel:
    """The first few people of the stream, the same ones in every process."""
    chosen: dict[str, Any] = {}
    for number in range(_PANEL_DRAWS):
        sample = stream.draw(number)
        chosen.setdefault(sample.identity or sample.key, sample)
        if len(chosen) == config.log.panel_people:
            break
    grammar = Compositions.load(config.run_config.stage.compositions)
    people = list(chosen.values())
    return Panel(
        photos=tuple(sample.image for sample in people),
        ids=torch.from_numpy(np.stack([sample.id_embedding for sample in people])),
        person_types=tuple(sample.person_type for sample in people),
        portrait=grammar.templates.portrait,
        compositions=tuple(
            f"{grammar.templates.portrait} {grammar.sample(numpy_generator('panel', number), sample.person_type)}"
            for number, sample in enumerate(people)
        ),
    )


def _tell(
    config: DistillConfig,
    trainer: Trainer,
    batches: Batches,
    written: RunLog,
    report: StepReport,
    rank: int,
    run: str,
    origins: dict[str, str],
) -> None:
    """Metrics and, when it is due, a checkpoint, to Ray Train; every worker calls it after every step."""
    import ray.train
    from ray.train import CheckpointUploadMode

    due = trainer.finished or trainer.number % config.log.checkpoint_every == 0
    metrics = {"step": trainer.number, "loss": report.loss, "norm": report.norm}
    if not due:
        if trainer.number % config.log.log_every == 0:
            ray.train.report(metrics)
        return
    if rank:
        written.checkpoint(None)
        ray.train.report(metrics)
        return
    folder = Path(tempfile.mkdtemp(prefix=_prefix(config)))  # Ray deletes it when it is uploaded
    try:
        save_checkpoint(folder, trainer, data=batches.state(), run=run, origins=origins)
        written.checkpoint(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)  # a disk that is full has no room for halves of checkpoints
        raise
    ray.train.report(
        metrics,
        checkpoint=ray.train.Checkpoint.from_directory(folder),
        checkpoint_dir_name=f"checkpoint_{trainer.number:08d}",
        # the last one is waited for, so that a finished run has its encoder
        checkpoint_upload_mode=CheckpointUploadMode.SYNC if trainer.finished else CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
    )


def _prefix(config: DistillConfig) -> str:
    """Of the folders in which this run's checkpoints are made, before they are uploaded."""
    place = hashlib.sha256(config.folder.encode()).hexdigest()[:16]
    return f"adaface-checkpoint-{place}-"
