"""What optimizer steps consist of: how often, the same everywhere, and from any step on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from adaface.distill.plan import BatchPlan, IterationPlan
from adaface.distill.plan_settings import PlanSettings, stage_settings

STEPS = 20_000


def batches(plan: IterationPlan, steps: int = STEPS) -> list[BatchPlan]:
    return [batch for number in range(steps) for batch in plan.step(number).batches]


@pytest.fixture(scope="module", params=[1, 2])
def stage(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def planned(stage) -> list[BatchPlan]:
    return batches(IterationPlan(3, stage_settings(stage)))


def share(batches: list[BatchPlan], condition) -> float:
    return sum(map(condition, batches)) / len(batches)


def near(expected: float, count: int):
    """Four standard errors of a share of so many."""
    return pytest.approx(expected, abs=4 * (expected * (1 - expected) / count) ** 0.5 + 1e-12)


# training.md 1.1: kind and target of a batch
SHARES = {
    1: {
        ("random_id", "teacher"): 0.40,
        ("noised_id", "teacher"): 0.36,
        ("clean_id", "teacher"): 0.12,
        ("clean_id", "noise"): 0.12,
    },
    2: {
        ("compositional", "features"): 1 / 3,
        ("reconstruction", "noise"): 2 / 3 * 0.8,
        ("random_id", "teacher"): 2 / 3 * 0.2 * 0.4,
        ("noised_id", "teacher"): 2 / 3 * 0.2 * 0.36,
        ("clean_id", "teacher"): 2 / 3 * 0.2 * 0.12,
        ("clean_id", "noise"): 2 / 3 * 0.2 * 0.12,
    },
}


def test_kinds_come_as_often_as_in_the_original(stage, planned):
    assert len(planned) == 2 * STEPS
    found = Counter((batch.kind, batch.target) for batch in planned)
    assert set(found) == set(SHARES[stage])
    for pair, expected in SHARES[stage].items():
        assert found[pair] / len(planned) == near(expected, len(planned)), pair


def test_every_third_step_of_stage_2_is_compositional(stage):
    plan = IterationPlan(0, stage_settings(stage))
    for number in range(300):
        step = plan.step(number)
        assert step.compositional == (stage == 2 and number % 3 == 0)
        assert all((batch.kind == "compositional") == step.compositional for batch in step.batches)


def test_rollouts_come_as_often_as_in_the_original(stage, planned):
    taught = [batch for batch in planned if batch.target == "teacher"]
    assert all(batch.rollout == 1 for batch in planned if batch.target != "teacher")
    expected = {1: {1: 0.4, 3: 0.3, 5: 0.2, 7: 0.1}, 2: {1: 4 / 7, 3: 3 / 7}}[stage]
    assert {batch.rollout for batch in taught} == set(expected)
    for steps, probability in expected.items():
        assert share(taught, lambda batch, steps=steps: batch.rollout == steps) == near(probability, len(taught))


def test_coins_fall_as_often_as_in_the_original(stage, planned):
    def of(kind: str) -> list[BatchPlan]:
        return [batch for batch in planned if batch.kind == kind]

    assert not any(batch.background for batch in planned if batch.distils)
    clean = of("clean_id")
    assert share(clean, lambda batch: batch.student_id_level > 0) == near(0.5, len(clean))
    assert all(0.01 <= batch.student_id_level <= 0.02 for batch in planned if batch.student_id_level)
    noised = of("noised_id")
    assert all(0.02 <= batch.id_level <= 0.06 and batch.student_id_level == 0 for batch in noised)
    assert np.mean([batch.id_level for batch in noised]) == pytest.approx(0.04, abs=0.001)
    assert {batch.id_level for batch in planned if batch.kind != "noised_id"} == {0.0}
    assert share(planned, lambda batch: batch.normalise) == near(0.5, len(planned))
    assert all(batch.token_share == (0.4 if batch.kind == "compositional" else 0.6) for batch in planned)
    assert not any(batch.portrait for batch in planned if batch.kind != "compositional")
    if stage == 2:
        compositional, reconstruction = of("compositional"), of("reconstruction")
        assert share(compositional, lambda batch: batch.background) == near(0.5, len(compositional))
        assert share(compositional, lambda batch: batch.portrait) == near(0.9, len(compositional))
        assert share(reconstruction, lambda batch: batch.background) == near(0.9, len(reconstruction))


def test_weights_of_the_text_layers_are_dirichlet(planned):
    weights = np.array([batch.clip_skip for batch in planned])
    assert np.allclose(weights.sum(axis=1), 1) and (weights > 0).all()
    assert weights.mean(axis=0) == pytest.approx([0.2, 0.4, 0.4], abs=0.005)
    # variance of Dirichlet(1, 2, 2): a(5 - a) / (25 * 6)
    assert weights.var(axis=0) == pytest.approx([4 / 150, 6 / 150, 6 / 150], abs=0.001)


def test_timesteps_are_kept_less_and_less_often():
    settings = stage_settings(1, steps=5000, random_id=0.0)
    planned = batches(IterationPlan(1, settings), 5000)
    early = [batch for batch in planned if batch.progress < 0.2]
    late = [batch for batch in planned if batch.progress > 0.8]
    assert share(early, lambda batch: batch.keep_timesteps) == near(0.38, len(early))
    assert share(late, lambda batch: batch.keep_timesteps) == near(0.22, len(late))
    assert planned[-1].progress == pytest.approx(1, abs=1e-3)


def test_where_timesteps_begin():
    settings = stage_settings(2)
    for batch in batches(IterationPlan(5, settings), 300):
        low = {"random_id": 950, "compositional": 800}.get(batch.kind, 0)
        assert batch.low == low and (batch.keep_timesteps or not low)
    original = batches(IterationPlan(5, stage_settings(1, random_start="anywhere")), 300)
    assert {batch.low for batch in original} == {0}
    assert {batch.keep_timesteps for batch in original if batch.kind == "random_id"} == {True, False}


def test_a_plan_is_the_same_on_every_worker_and_from_any_step_on(stage):
    settings = stage_settings(stage)
    whole = [IterationPlan(11, settings).step(number) for number in range(60)]
    resumed = IterationPlan(11, settings)
    assert [resumed.step(number) for number in range(40, 60)] == whole[40:]
    assert [resumed.step(number) for number in reversed(range(60))] == whole[::-1]
    other = IterationPlan(12, settings)
    assert sum(other.step(number) == whole[number] for number in range(60)) == 0


def test_changing_one_share_leaves_the_other_draws_as_they_were():
    one = batches(IterationPlan(0, stage_settings(2)), 200)
    two = batches(IterationPlan(0, stage_settings(2, distillation=0.5)), 200)
    changed = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
    assert changed and all(a.kind == "reconstruction" for a, _ in changed)
    assert [batch.clip_skip for batch in one] == [batch.clip_skip for batch in two]


def test_streams_belong_to_one_step_batch_slot_and_purpose():
    plan = IterationPlan(0, stage_settings(1))
    names = [(0, 0, "noise", 0), (1, 0, "noise", 0), (0, 1, "noise", 0), (0, 0, "t", 0), (0, 0, "noise", 1)]
    drawn = {
        tuple(torch.rand(4, generator=plan.generator(step, slot, purpose, batch=batch)).tolist())
        for step, slot, purpose, batch in names
    }
    assert len(drawn) == len(names)
    assert plan.chooser(3, 1, "words").random() == IterationPlan(0, stage_settings(2)).chooser(3, 1, "words").random()
    other = IterationPlan(1, stage_settings(1))
    assert plan.chooser(3, 1, "words").random() != other.chooser(3, 1, "words").random()


def a_batch(kind: str, rollout: int = 1) -> BatchPlan:
    first = IterationPlan(0, stage_settings(1)).step(0).batches[0]
    return replace(first, kind=kind, rollout=rollout)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rollout", "kept"), [(1, 4), (3, 2), (5, 1), (7, 1)])
def test_long_rollouts_take_fewer_samples(rollout, kept):
    plan = IterationPlan(0, stage_settings(1))
    rows = plan.rows(a_batch("clean_id", rollout), 8, 4)
    assert [(row.source, row.slot) for row in rows] == [(place, 8 + place) for place in range(kept)]
    everyone = IterationPlan(0, stage_settings(1, shrink=False))
    assert len(everyone.rows(a_batch("clean_id", rollout), 8, 4)) == 4


def test_copies_of_the_first_sample():
    plan = IterationPlan(0, stage_settings(1))
    rows = plan.rows(a_batch("noised_id", 3), 0, 8)
    assert [(row.source, row.slot) for row in rows] == [(0, 0), (0, 1), (4, 4), (4, 5)]
    apart = IterationPlan(0, stage_settings(1, noised_copies=False))
    assert [row.source for row in apart.rows(a_batch("noised_id"), 0, 4)] == [0, 1, 2, 3]
    assert [(row.source, row.slot) for row in plan.rows(a_batch("compositional"), 4, 8)] == [(0, 4), (4, 8)]


def test_several_compositions_of_a_group():
    plan = IterationPlan(0, stage_settings(2, batch=4, compositions=3))
    rows = plan.rows(a_batch("compositional"), 4, 8)
    assert [(row.source, row.slot) for row in rows] == [(0, 4), (1, 5), (2, 6), (4, 8), (5, 9), (6, 10)]
    everyone = IterationPlan(0, stage_settings(2, batch=2, compositions=None))
    assert [row.slot for row in everyone.rows(a_batch("compositional"), 4, 4)] == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="compositions must be at most batch, 4, not 5"):
        stage_settings(2, batch=4, compositions=5)


@pytest.mark.parametrize("kind", ["random_id", "noised_id", "reconstruction", "compositional"])
@pytest.mark.parametrize("rollout", [1, 3, 7])
def test_two_workers_compute_what_one_with_both_batches_computes(kind, rollout):
    plan, batch = IterationPlan(0, stage_settings(1)), a_batch(kind, rollout)
    one = plan.rows(batch, 0, 8)
    two = [(row.source + 4 * rank, row.slot) for rank in (0, 1) for row in plan.rows(batch, 4 * rank, 4)]
    assert [(row.source, row.slot) for row in one] == two
    noise = [torch.rand(3, generator=stream) for stream in plan.generators(batch, one, "noise")]
    later = [torch.rand(3, generator=stream) for stream in plan.generators(batch, plan.rows(batch, 4, 4), "noise")]
    assert all(map(torch.equal, noise[len(noise) // 2 :], later))


def test_batches_of_broken_groups_are_refused():
    plan = IterationPlan(0, stage_settings(1))
    for first, count in ((0, 3), (2, 4), (0, 0)):
        with pytest.raises(ValueError, match="groups of 4 samples"):
            plan.rows(a_batch("clean_id"), first, count)
    with pytest.raises(ValueError, match="count from 0"):
        plan.step(-1)


def test_settings_name_everything_that_is_wrong():
    with pytest.raises(ValueError) as error:
        PlanSettings(
            steps=0,
            batch=True,
            random_id=1.1,
            rollouts=(1, 1),
            random_start="somewhere",  # type: ignore[arg-type]
            keep_timesteps=(0.4, 2.0),
            clip_skip=(1.0, 0.0),
        )
    names = ("steps", "batch", "random_id", "rollouts", "random_start", "keep_timesteps", "clip_skip")
    assert all(name in str(error.value) for name in names)
    with pytest.raises(ValueError, match="rollout_shares must be 4 numbers"):
        PlanSettings(rollout_shares=(1.0,))
    with pytest.raises(ValueError, match="a plan has no stepz"):
        stage_settings(1, stepz=3)
    with pytest.raises(ValueError, match="stages 1 and 2"):
        stage_settings(3)


def test_settings_fit_into_a_checked_configuration():
    pydantic = pytest.importorskip("pydantic")
    adapter = pydantic.TypeAdapter(PlanSettings)
    found = adapter.validate_python(
        {"batch": 2, "rollouts": [1, 2], "rollout_shares": [1, 1], "noise": {"token_share": 0}}
    )
    assert found.rollouts == (1, 2) and found.noise.token_share == 0
    with pytest.raises(pydantic.ValidationError, match=r"noise\.tokens"):
        adapter.validate_python({"noise": {"tokens": 3}})
    assert adapter.validate_json(adapter.dump_json(stage_settings(2))) == stage_settings(2)
