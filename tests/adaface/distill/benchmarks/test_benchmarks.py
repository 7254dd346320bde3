"""The measuring itself, on networks so small that a step takes milliseconds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adaface.distill.benchmarks.__main__ import main as benchmark
from adaface.distill.benchmarks.floor import written_down
from adaface.distill.benchmarks.networks import Networks, random_networks
from adaface.distill.benchmarks.original_way import OriginalTask
from adaface.distill.benchmarks.steps import Measured, measure, ratio, total, unet_ratio
from adaface.distill.benchmarks.workload import EVERYTHING_TEACHES, KINDS, only, random_samples, with_batch
from adaface.distill.contexts import checkpoint_gradients
from adaface.distill.plan import IterationPlan
from adaface.distill.speed import FlopCount, passes_of
from adaface.distill.stage import Stage, original_stage
from adaface.distill.task import DistillTask
from adaface.distill.token_noise import NoiseSettings
from adaface.distill.trainer import Trainer
from adaface.models.precision import Precision
from tests.adaface.distill.benchmarks.small_sizes import SMALL

BATCH = 2


@pytest.fixture(scope="module")
def networks() -> Networks:
    return random_networks(SMALL, "fp32")


def stage_of(kind: str, **plan: object) -> Stage:
    number = 2 if kind.startswith(("reconstruction", "compositional")) else 1
    stage = replace(original_stage(number, batch=BATCH, accumulate=1), filter=EVERYTHING_TEACHES)
    return only(kind, stage, rollouts=(1,), rollout_shares=(1.0,), **plan)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_has_nothing_but_the_kind_that_is_asked_for(kind):
    plan = IterationPlan(0, stage_of(kind).plan)
    batches = [batch for number in range(40) for batch in plan.step(number).batches]
    assert {batch.kind for batch in batches} == {kind.split()[0].rstrip(",")}
    assert {batch.background for batch in batches} == {kind.endswith("with background")}
    if kind.startswith("clean_id"):
        assert {batch.target for batch in batches} == {"noise" if "true" in kind else "teacher"}


def flops(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", ["random_id", "clean_id, true noise", "reconstruction", "compositional"])
def test_the_floor_does_what_the_networks_do_in_a_step(networks, kind):
    """In operations: nearly all of a step's are its networks', and the floor makes all of those."""
    stage, samples = stage_of(kind), random_samples(networks.models, networks.encoder, BATCH)
    trainer = Trainer(networks.task(stage), lambda: samples, count=BATCH)
    with written_down(networks) as calls:
        trainer.step()
    before = {name: tensor.clone() for name, tensor in networks.encoder.state_dict().items()}
    floor = flops(lambda: calls.again(networks))
    assert all(parameter.grad is None for parameter in networks.encoder.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in networks.encoder.state_dict().items())
    trainer.number = 0
    whole = flops(trainer.step)
    assert floor == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("kind", ["random_id", "noised_id", "clean_id, true noise", "reconstruction", "compositional"])
def test_counted_operations_are_those_of_the_unets(networks, kind):
    """Against torch's counter over both UNets, backward pass included."""
    stage, samples = stage_of(kind), random_samples(networks.models, networks.encoder, BATCH)
    task = networks.task(stage)
    batch = task.plan.step(0).batches[0]
    with written_down(networks) as calls:
        task(batch, samples, 0)
    unets = calls.of_unets(networks)
    assert 0 < len(unets.made) < len(calls.made)
    counted = FlopCount(networks.models).of_batch(
        batch, len(task.plan.rows(batch, 0, BATCH)), **passes_of(stage, {}, filters=True)
    )
    assert counted == pytest.approx(flops(lambda: unets.again(networks)), rel=0.1)


def test_steps_are_measured_in_turns_with_their_floor(networks):
    samples = random_samples(networks.models, networks.encoder, BATCH)
    stage = original_stage(1, batch=BATCH, accumulate=1)
    told = []
    found = measure(networks, stage, samples, steps=range(2), repeats=2, say=told.append)
    assert told == found and all(len(step.seconds) == len(step.floor) == len(step.unets) == 2 for step in found)
    assert all(took > 0 for step in found for took in (*step.seconds, *step.floor, *step.unets))
    assert found[0].flops > 0
    assert ratio(found) == pytest.approx(
        sum(sum(step.seconds) for step in found) / sum(sum(step.floor) for step in found)
    )


def test_ratios_are_those_of_medians() -> None:
    found = [
        Measured(("clean_id",), (2.0, 9.0, 3.0), (2.0, 2.0, 8.0), (1.0, 1.5, 2.0), 1.0),
        Measured(("compositional",), (1.0,), (1.0,), (0.5,), 1.0),
    ]
    assert total(found) == 4 and total(found, "floor") == 3 and total(found, "unets") == 2
    assert ratio(found) == pytest.approx(4 / 3) and unet_ratio(found) == pytest.approx(2)


def test_a_smaller_batch_has_no_more_compositions_than_samples() -> None:
    stage = original_stage(2, batch=4, compositions=3, accumulate=2)
    assert with_batch(stage) == stage
    plan = with_batch(stage, batch=2, accumulate=1).plan
    assert (plan.batch, plan.compositions, plan.accumulate) == (2, 2, 1)


def test_a_stage_of_a_configuration_is_measured(tmp_path, capsys) -> None:
    """The miniature with its shipped networks: the file's compositions, multiplier, and no background token."""
    file = tmp_path / "distill.yaml"
    file.write_text(
        """
models: {precision: bf16, clip: somewhere}
stage2:
  multiplier: 2
  stage:
    compositions: package://adaface.miniature/compositions.yaml
    plan: {batch: 2, accumulate: 2, compositions: 2, background_compositional: 1, distillation: 1}
    optimizer: {name: adamw}
""",
        encoding="utf-8",
    )
    arguments = ["--stage", "2", "--config", str(file), "--device", "cpu", "--repeats", "1"]
    assert benchmark([*arguments, "--steps", "2", "--accumulate", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("compositional ") and "UNets alone" in said[0]
    assert [line.split(" (")[0] for line in said[2:4]] == ["compositional", said[1].split()[0]]
    assert "step / floor" in said[-1] and "step / UNets alone" in said[-1]
    file.write_text("models: {}\nstage2: {stage: {plan: {bach: 2}}}", encoding="utf-8")
    with pytest.raises(SystemExit):
        benchmark(arguments)
    assert "stage2.stage.plan has no bach" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_originals_way_computes_the_same(precision: Precision):
    """Where no noise tells its layers apart; frozen networks that lie in half precision included."""
    networks = random_networks(SMALL, precision)
    quiet = NoiseSettings(token_share=0.0)
    stage = stage_of("clean_id, teacher's noise", noise=quiet)
    samples = random_samples(networks.models, networks.encoder, BATCH)
    ours = DistillTask(networks.models, networks.encoder, stage, seed=0)
    expected, _ = ours(ours.plan.step(0).batches[0], samples, 0)
    theirs = OriginalTask(networks, stage)
    found, _ = theirs(theirs.plan.step(0).batches[0], samples, 0)
    # its teacher computes in half precision
    torch.testing.assert_close(found, expected, rtol=0.02 if precision == "fp32" else 0.05, atol=1e-3)
    (step,) = measure(networks, stage, samples, steps=range(1), repeats=1, task=theirs)
    assert step.seconds[0] > 0 and step.floor[0] > 0


@pytest.mark.parametrize("kind", ["random_id", "reconstruction with background", "compositional with background"])
def test_checkpointed_gradients_are_the_same(kind):
    stage = stage_of(kind)
    gradients = []
    for checkpointed in (False, True):
        networks = random_networks(SMALL, "fp32")
        if checkpointed:
            checkpoint_gradients(networks.models.unet)
        task = networks.task(stage)
        loss, _ = task(task.plan.step(0).batches[0], random_samples(networks.models, networks.encoder, BATCH), 0)
        loss.backward()
        gradients.append({name: p.grad for name, p in networks.encoder.named_parameters() if p.grad is not None})
    plain, again = gradients
    assert plain.keys() == again.keys() and len(plain) > 20
    assert sum(float(gradient.abs().sum()) for gradient in plain.values()) > 0
    for name, gradient in plain.items():
        torch.testing.assert_close(
            again[name], gradient, rtol=1e-4, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )
