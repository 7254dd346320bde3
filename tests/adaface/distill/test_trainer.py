"""Optimizer steps: means of batches, clipped, left out where they are not finite, and losses that fall."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from adaface.distill.optimizer import OptimizerSettings
from adaface.distill.schedule import ScheduleSettings
from adaface.distill.stage import Stage
from adaface.distill.task import DistillTask
from adaface.distill.trainer import MOST_SKIPPED, Trainer
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.tiny_steps import ONLY, SEED, samples, stage_of, task_of, trainer_of

ADAMW = OptimizerSettings(name="adamw", rate=3e-3)
AT_ONCE = ScheduleSettings(warmup=1)


def weights(task: DistillTask) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.encoder.state_dict().items()}


@pytest.mark.parametrize("kind", ONLY)
def test_a_step_moves_the_encoder_and_nothing_else(tiny: Tiny, kind: str) -> None:
    task = task_of(tiny, stage_of(kind, optimizer=ADAMW, schedule=AT_ONCE))
    networks = (tiny.models.unet, tiny.models.text, tiny.models.vae, tiny.models.teacher, task.encoder.teacher)
    before = [{name: tensor.clone() for name, tensor in each.state_dict().items()} for each in networks]
    encoder = weights(task)
    trainer = trainer_of(task)
    report = trainer.step()
    assert report.kinds == (kind,) and report.norm > 0 and not report.skipped
    after = weights(task)
    moved = {name for name in after if not torch.equal(after[name], encoder[name])}
    assert moved == {name for name, parameter in task.encoder.named_parameters() if parameter.requires_grad}
    for network, tensors in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in network.state_dict().items())


def test_the_optimizer_has_what_is_trained_and_nothing_else(tiny: Tiny) -> None:
    task = task_of(tiny, stage_of("compositional"))
    trainer = trainer_of(task)
    trained = [id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]]
    wanted = [id(parameter) for name, parameter in task.encoder.named_parameters() if not name.startswith("teacher.")]
    assert sorted(trained) == sorted(wanted) and len(trained) == len(set(trained))
    assert {id(parameter) for parameter in task.parameters()} >= set(trained)
    assert [name for name, p in task.named_parameters() if p.requires_grad and id(p) not in set(trained)] == []


def test_batches_of_a_step_are_averaged(tiny: Tiny) -> None:
    """The gradient of two accumulated batches is the mean of those of the batches."""
    stage = stage_of("clean_id", plan={"accumulate": 2, "teacher_target": 0.0}, optimizer=ADAMW, schedule=AT_ONCE)
    task = task_of(tiny, stage)
    gradients = []
    for place, batch in enumerate(task.plan.step(0).batches):
        task(batch, samples(2 * place, 2), 0)[0].backward()
        gradients.append({name: p.grad.clone() for name, p in task.encoder.named_parameters() if p.grad is not None})
        task.zero_grad(set_to_none=True)
    given = itertools.count(0, 2)
    trainer = trainer_of(task, lambda: samples(next(given), 2))
    report = trainer.step()
    assert report.samples == 4 and [len(keys) for keys in report.keys] == [2, 2]
    mean = {name: (gradients[0][name] + gradients[1][name]) / 2 for name in gradients[0]}
    norm = math.sqrt(sum(float(each.square().sum()) for each in mean.values()))
    assert report.norm == pytest.approx(norm, rel=1e-5)
    for name, parameter in task.encoder.named_parameters():
        if name in mean:
            clipped = mean[name] * min(1.0, stage.optimizer.clip / norm)
            torch.testing.assert_close(parameter.grad, clipped, rtol=1e-4, atol=1e-7)


def test_gradients_are_clipped(tiny: Tiny) -> None:
    settings = OptimizerSettings(name="adamw", clip=1e-3)
    trainer = trainer_of(task_of(tiny, stage_of("clean_id", optimizer=settings, schedule=AT_ONCE)))
    report = trainer.step()
    after = torch.nn.utils.get_total_norm([p.grad for p in trainer.parameters if p.grad is not None])
    assert report.norm > 1e-3 and float(after) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "optimizer"), [("clean_id", OptimizerSettings(first_d=1e-4)), ("compositional", ADAMW)]
)
def test_losses_fall_in_thirty_steps(tiny: Tiny, kind: str, optimizer: OptimizerSettings) -> None:
    """On the same samples with the same noise: every step is the plan's first."""
    plan = {"rollouts": [1], "rollout_shares": [1.0], "teacher_target": 1.0}
    trainer = trainer_of(task_of(tiny, stage_of(kind, plan=plan, optimizer=optimizer, schedule=AT_ONCE)))
    losses = []
    for _ in range(30):
        trainer.number = 0
        losses.append(trainer.step().loss)
    assert losses[-1] < 0.95 * losses[0], losses
    assert sum(losses[-5:]) < sum(losses[:5])


def spoilt(number: int) -> dict[str, Any]:
    given = samples(number, 2)
    given["id_embedding"] = given["id_embedding"] * float("nan")
    return given


def test_a_step_that_is_not_finite_is_left_out_and_counted(tiny: Tiny) -> None:
    stage = stage_of("clean_id", optimizer=ADAMW, schedule=AT_ONCE)
    given = iter([samples(0, 2), spoilt(2), samples(4, 2)])
    task = task_of(tiny, stage)
    trainer = trainer_of(task, lambda: next(given))
    trainer.step()
    before, state = weights(task), str(trainer.optimizer.state_dict()["state"][0])
    report = trainer.step()
    assert report.skipped and math.isnan(report.loss) and trainer.skipped == 1
    after = weights(task)
    assert all(torch.equal(after[name], before[name]) for name in after)
    assert str(trainer.optimizer.state_dict()["state"][0]) == state
    last = trainer.step()
    assert not last.skipped and last.number == 2 and math.isfinite(last.loss) and trainer.skipped == 1


def test_many_such_steps_in_a_row_stop_the_run(tiny: Tiny) -> None:
    numbers = itertools.count()
    # one sound step in between begins the count again
    trainer = trainer_of(
        task_of(tiny, stage_of("clean_id", plan={"batch": 1, "teacher_target": 0.0})),
        lambda: samples(0, 1) if next(numbers) == 2 else {name: value[:1] for name, value in spoilt(0).items()},
    )
    for _ in range(2 + MOST_SKIPPED):
        trainer.step()
    with pytest.raises(
        FloatingPointError, match=rf"{MOST_SKIPPED} steps in a row, up to step 22, .*lower learning rate"
    ):
        trainer.step()


def test_a_trainer_needs_samples(tiny: Tiny) -> None:
    trainer = Trainer(DistillTask(tiny.models, tiny.encoder(), Stage(), seed=SEED), count=4)
    with pytest.raises(ValueError, match="no samples"):
        trainer.step()
