"""Workers of a training without Ray: going on from a checkpoint is the run that never stopped, bit by bit."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from adaface.distill.panel import draw_panel
from adaface.encoder.model import AdaFaceEncoder
from data_pipeline.training_set import BadSample
from ray_jobs.cache_latents import encode
from ray_jobs.distill_worker import choose_arithmetic, choose_panel
from tests.data_pipeline.streams import keys_of_shard, spoil
from tests.ray_jobs.tiny_training import (
    ACCEPTS_ALL,
    CLIP,
    LOSSES,
    PRODIGY,
    Configs,
    equal,
    go_on,
    save,
    training,
    weights,
    what_was_done,
)


@pytest.mark.parametrize(("stage", "optimizer"), [(1, "prodigy"), (2, "adamw"), (2, "prodigy")])
def test_going_on_is_the_run_that_never_stopped(configs: Configs, tmp_path: Path, stage: int, optimizer: str) -> None:
    settings: dict[str, Any] = {"optimizer": {**PRODIGY, "name": optimizer}}
    if stage == 2:  # all of its losses, the filter and the background token, too: only stage 2 has them
        settings |= {"plan": {"compositions": 2}, "losses": LOSSES, "filter": ACCEPTS_ALL}
    this = configs(stage=stage, models={"clip": CLIP, "vision": CLIP}, **{f"stage{stage}": {"stage": settings}})
    with training(this) as (trainer, batches):
        before = weights(trainer)
        whole = [what_was_done(trainer.step()) for _ in range(3)]
        folder = save(tmp_path / "checkpoint", trainer, batches)
        whole += [what_was_done(trainer.step()) for _ in range(3)]
        assert trainer.finished
        expected = weights(trainer)
    assert not equal(before, expected)
    learned = [numbers["teachable"] for *_, numbers, _, _ in whole if "teachable" in numbers]
    assert all(share > 0 for share in learned) and len(learned) == (2 if stage == 2 else 0)
    with training(this) as (trainer, batches):
        assert equal(weights(trainer), before), "a run begins with the same encoder in every process"
        go_on(folder, trainer, batches)
        assert [what_was_done(trainer.step()) for _ in range(3)] == whole[3:]
        assert equal(weights(trainer), expected)
    assert AdaFaceEncoder.from_pretrained(folder / "encoder")(torch.eye(192)[:1]).shape == (1, 16, 192)


def test_what_a_plan_needs_is_loaded_whatever_the_stage_is_called(configs: Configs) -> None:
    """A first stage may compose, and a second one need not: then nobody would ask the judge."""
    models = {"clip": CLIP, "vision": CLIP}
    for stage, composes in ((1, True), (1, False), (2, False)):
        plan = {"compositional_every": 3 if composes else 0, "distillation": 0.5 if composes else 1.0}
        with training(configs(stage=stage, models=models, **{f"stage{stage}": {"stage": {"plan": plan}}})) as (
            trainer,
            _,
        ):
            task = trainer.task
            assert [own.clip is not None for own in task._composer] == [True] * composes
            assert (task.encoder.background is not None) == composes


def test_samples_that_are_damaged(tiny: tuple[Path, Path], configs: Configs, tmp_path: Path) -> None:
    """They stop a run, or are counted and replaced, after a restart by the same ones."""
    faces = Path(shutil.copytree(tiny[1] / "out", tmp_path / "faces"))
    lost = keys_of_shard(faces, 1)
    for key in lost:
        spoil(faces, key, "jpg")
    data = {"datasets": [str(faces)]}
    with training(configs(data=data)) as (trainer, _), pytest.raises(BadSample, match=r"train-000001\.tar"):
        while not trainer.finished:
            trainer.step()
    skipping = configs(data={**data, "on_bad": "skip"})
    with training(skipping) as (trainer, batches):
        done = [what_was_done(trainer.step()) for _ in range(2)]
        save(tmp_path / "checkpoint", trainer, batches)
        done += [what_was_done(trainer.step()) for _ in range(2)]
        seen = {key for keys in (keys for step in done for keys in step[2]) for key in keys}
        assert seen and not seen & lost
        assert 0 < sum(batches.skipped.values()) == batches.skipped["bytes changed"]
        skipped = dict(batches.skipped)
    with training(skipping) as (trainer, batches):
        go_on(tmp_path / "checkpoint", trainer, batches)
        assert [what_was_done(trainer.step()) for _ in range(2)] == done[2:]
        assert batches.skipped == skipped


@pytest.mark.parametrize("images", [True, False])
def test_latents_take_the_place_of_pictures(
    tiny: tuple[Path, Path], configs: Configs, tmp_path: Path, images: bool
) -> None:
    """A training on cached latents goes as one that encodes, and loads no VAE that nobody needs."""
    faces = Path(shutil.copytree(tiny[1] / "out", tmp_path / "faces"))
    shares = {"stage": {"plan": {"random_id": 0.0, "noised_id": 0.0}}}
    whole = {"datasets": [str(faces)], "augment": {"scale": None}}
    cached = configs(data={**whole, "latents": "vae", "images": images}, stage1=shares, log={"panel_every": 3})
    encode(cached, "cpu")
    losses = []
    for config in (configs(data=whole, stage1=shares), cached):
        with training(config) as (trainer, _):
            losses.append([trainer.step().loss for _ in range(2)])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    with training(cached) as (trainer, batches):
        assert (trainer.task.models.vae is not None) == images, "the panel's pictures are decoded"
        if images:
            assert draw_panel(trainer.task, choose_panel(cached, batches.stream), 0)[1:4] == b"PNG"


def test_the_panel_has_the_same_people_in_every_process(configs: Configs) -> None:
    this = configs(log={"panel_people": 3, "panel_every": 1})
    panels = []
    for taken in (0, 5):
        with training(this) as (_, batches):
            stream = batches.stream
            for _ in range(taken):
                next(stream)
            position = stream.position
            panels.append(choose_panel(this, stream))
            assert stream.position == position, "the stream goes on where it was"
    first, second = panels
    assert first.compositions == second.compositions and len(set(first.compositions)) == 3
    assert torch.equal(first.ids, second.ids) and len(first.photos) == 3
    for one, other in itertools.combinations(first.ids, 2):
        assert float(one @ other) < 0.9, "different people"


def test_low_precision_trains_too(configs: Configs) -> None:
    with training(configs(models={"precision": "bf16"})) as (trainer, _):
        low = trainer.step()
        assert all(p.dtype == torch.float32 for p in trainer.parameters)
    with training(configs()) as (trainer, _):
        assert trainer.step().loss == pytest.approx(low.loss, rel=0.1)


@pytest.mark.parametrize(("asked", "used"), [(None, True), (False, False), (True, True)])
def test_exact_repetition_is_what_cpus_do_unless_told_otherwise(
    configs: Configs, asked: bool | None, used: bool
) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        choose_arithmetic(configs(machines={"deterministic": asked}), torch.device("cpu"))
        assert torch.are_deterministic_algorithms_enabled() == used
    finally:
        torch.use_deterministic_algorithms(before)
