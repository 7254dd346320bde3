"""Checkpoints: everything of a training comes back bit by bit, and what is not whole is not taken for a checkpoint."""

from __future__ import annotations

import copy
import json
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from adaface.distill.checkpoint import load_checkpoint, read_step, save_checkpoint
from adaface.distill.compositions import OWN
from adaface.distill.optimizer import OptimizerSettings
from adaface.distill.origins import origins_of
from adaface.distill.task import DistillTask
from adaface.distill.trainer import Trainer
from adaface.encoder.model import AdaFaceEncoder
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.tiny_steps import SEED, stage_of, task_of, trainer_of

DATA = {"position": 12, "skipped": {"bytes changed": 2}}
OPTIMIZERS = {"prodigy": OptimizerSettings(first_d=1e-3), "adamw": OptimizerSettings(name="adamw", rate=1e-3)}
PLAN = {"teacher_target": 0.0}


def trained(tiny: Tiny, optimizer: str = "adamw", steps: int = 2) -> Trainer:
    trainer = trainer_of(task_of(tiny, stage_of("clean_id", plan=PLAN, optimizer=OPTIMIZERS[optimizer])))
    for _ in range(steps):
        trainer.step()
    return trainer


def state(trainer: Trainer) -> Any:
    return trainer.state_dict(), trainer.task.encoder.state_dict()


def same(one: Any, other: Any) -> bool:
    """Bit by bit, types included."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.fixture(scope="module")
def folder(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after two steps: not to be changed."""
    place = tmp_path_factory.mktemp("checkpoints") / "whole"
    save_checkpoint(place, trained(tiny), data=DATA, run="this")
    return place


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_everything_comes_back(tiny: Tiny, tmp_path: Path, optimizer: str) -> None:
    trainer = trained(tiny, optimizer)
    trainer.skipped = 3
    save_checkpoint(tmp_path / "checkpoint", trainer, data=DATA, run="this")
    fresh = trained(tiny, optimizer, steps=1)
    assert not same(state(fresh), state(trainer))
    assert load_checkpoint(tmp_path / "checkpoint", fresh, run="this") == DATA
    assert same(state(fresh), state(trainer))
    assert read_step(tmp_path / "checkpoint") == fresh.number == 2
    assert fresh.step().loss == trainer.step().loss
    assert same(state(fresh), state(trainer))


def test_nothing_in_it_is_a_pickle(folder: Path) -> None:
    endings = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert endings == {".json", ".safetensors", ".md"}


def test_its_encoder_can_be_used(tiny: Tiny, folder: Path) -> None:
    encoder = AdaFaceEncoder.from_pretrained(folder / "encoder")
    ids = torch.eye(192)[:2]
    torch.testing.assert_close(encoder(ids), trained(tiny).task.encoder.eval()(ids))


def test_an_encoder_with_its_own_teacher_keeps_it(tiny: Tiny, tmp_path: Path) -> None:
    """Checkpoints are moved, so that a path to the teacher beside another encoder would lead nowhere."""
    tiny.encoder().save_pretrained(tmp_path / "start", teacher="copy")
    task = DistillTask(tiny.models, tiny.encoder(init=str(tmp_path / "start")), stage_of("clean_id"), seed=SEED)
    save_checkpoint(tmp_path / "deep/er/checkpoint", trainer_of(task), data=DATA, run="this")
    moved = shutil.move(tmp_path / "deep/er/checkpoint", tmp_path / "moved")
    shutil.rmtree(tmp_path / "start")
    assert AdaFaceEncoder.from_pretrained(Path(moved) / "encoder")(torch.eye(192)[:1]).shape == (1, 16, 192)


def test_a_checkpoint_of_another_run_is_refused(tiny: Tiny, folder: Path) -> None:
    trainer = trained(tiny, steps=1)
    before = copy.deepcopy(state(trainer))
    with pytest.raises(
        ValueError, match=r"another configuration \(run this, this is that\); give the run another name"
    ):
        load_checkpoint(folder, trainer, run="that")
    assert same(state(trainer), before)


@pytest.mark.parametrize("changed", ["init", "compositions"])
def test_a_run_whose_beginning_became_another_one_is_refused(tiny: Tiny, tmp_path: Path, changed: str) -> None:
    """Under the same paths, which is all that its configuration knows."""
    words, init = tmp_path / "words.yaml", tmp_path / "first"
    words.write_bytes(OWN.read_bytes())
    tiny.encoder().save_pretrained(init, teacher="reference")
    before = origins_of(str(init), str(words))
    assert [*before] == ["compositions", "init"]
    trainer = trained(tiny)
    save_checkpoint(tmp_path / "checkpoint", trainer, data=DATA, run="this", origins=before)
    assert load_checkpoint(tmp_path / "checkpoint", trainer, run="this", origins=before) == DATA
    if changed == "init":
        trainer.task.encoder.save_pretrained(tmp_path / "other", teacher="reference")
        shutil.copy(tmp_path / "other/adaface.safetensors", init)
    else:
        words.write_text(words.read_text() + "# a thought\n")
    now = origins_of(str(init), str(words))
    kept = copy.deepcopy(state(trainer))
    with pytest.raises(ValueError, match=rf"{changed}.* another one.* put back what the run began with, or .*name"):
        load_checkpoint(tmp_path / "checkpoint", trainer, run="this", origins=now)
    assert same(state(trainer), kept)


def test_a_checkpoint_that_does_not_know_its_beginning_is_taken(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(folder, tmp_path / "old"))
    content = json.loads((old / "trainer/state.json").read_text())
    del content["origins"]
    (old / "trainer/state.json").write_text(json.dumps(content))
    assert load_checkpoint(old, trained(tiny), run="this", origins=origins_of(None, None)) == DATA


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_half_a_checkpoint_is_none(tiny: Tiny, folder: Path, tmp_path: Path, damage: str) -> None:
    trainer = trained(tiny, steps=0)
    before = copy.deepcopy(state(trainer))
    for number, name in enumerate(files(folder)):
        half = Path(shutil.copytree(folder, tmp_path / str(number)))
        if damage == "missing":
            (half / name).unlink()
        else:
            (half / name).write_bytes((half / name).read_bytes()[:-10])
        for read in (read_step, lambda place: load_checkpoint(place, trainer, run="this")):
            with pytest.raises(ValueError, match="not a whole checkpoint"):
                read(half)
    assert same(state(trainer), before)


def test_what_is_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        read_step(tmp_path)
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer/state.json").write_text(json.dumps({"format": "adaface-checkpoint/2", "step": 7}))
    with pytest.raises(ValueError, match=r"that this version reads \(adaface-checkpoint/1\)"):
        read_step(tmp_path)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk with room for so many bytes per file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", ["of the encoder", "of the optimizer"])
def test_a_full_disk(tiny: Tiny, folder: Path, tmp_path: Path, room: str) -> None:
    """The error is that of the disk, what was written is no checkpoint, and the one before it loads."""
    trainer = trained(tiny)
    encoder = (folder / "encoder/adaface.safetensors").stat().st_size
    optimizer = (folder / "trainer/optimizer.safetensors").stat().st_size
    assert optimizer > encoder + 10_000
    with files_of_at_most(encoder - 10_000 if room == "of the encoder" else encoder + 5_000), pytest.raises(OSError):
        save_checkpoint(tmp_path / "next", trainer, data=DATA, run="this")
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        read_step(tmp_path / "next")
    assert load_checkpoint(folder, trainer, run="this") == DATA
    shutil.rmtree(tmp_path / "next")
    save_checkpoint(tmp_path / "next", trainer, data=DATA, run="this")
    assert read_step(tmp_path / "next") == 2
