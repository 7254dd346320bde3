"""The dry run of a configuration, on networks so small that a step takes milliseconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaface.distill.benchmarks.dry_run import main, parts_of, run
from adaface.distill.benchmarks.networks import random_networks
from adaface.distill.benchmarks.workload import KINDS, kinds_of, with_batch
from adaface.distill.plan import IterationPlan
from adaface.distill.run_file import read_run
from adaface.distill.stage import Stage, original_stage
from tests.adaface.distill.benchmarks.small_sizes import SMALL

SD15 = Path(__file__).parents[4] / "configs/distill-sd15.yaml"
DISTILLATION = list(KINDS)[:4]
STAGE2 = list(KINDS)[4:]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def stages_of_file() -> dict[int, Stage]:
    return {number: with_batch(read_run(SD15, number).stage, batch=2) for number in (1, 2)}


def test_both_stages_of_the_file_are_run_as_it_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    """All kinds, rollouts of 1 and 3, the encoder's two keys and values per token, two batches a step, two steps."""
    assert main(["--config", str(SD15), "--batch", "1", "--threads", "1", "--device", "cpu"], SMALL) == 0
    first, second, *lines = capsys.readouterr().out.splitlines()
    assert first == "distill-sd15.yaml, keys and values per token: 2" and second.startswith("networks: ")
    asked = [f"stage 1, {kind}, rollout {length}" for kind in DISTILLATION[:3] for length in (1, 3)]
    expected = [*asked, f"stage 1, {DISTILLATION[3]}", *(f"stage 2, {kind}" for kind in STAGE2)]
    assert [line.split(":")[0] for line in lines] == expected
    assert all(line.count(" s") >= 2 and "GB at most so far" in line for line in lines)


def test_the_parts_keep_what_the_file_says() -> None:
    stages = stages_of_file()
    stages[2] = replace(stages[2], compositions="package://adaface.miniature/compositions.yaml", anchor=0.5)
    stages[2] = replace(stages[2], plan=replace(stages[2].plan, compositions=2))
    parts = parts_of(stages)
    for part in parts:
        batches = [batch for step in range(6) for batch in IterationPlan(0, part.stage.plan).step(step).batches]
        assert len(batches) == 12  # accumulate: 2
        assert {batch.kind for batch in batches} == {part.kind.split()[0].rstrip(",")}
        if part.rollout:
            assert {batch.rollout for batch in batches} == {part.rollout}
    last = parts[-1].stage
    assert (last.plan.compositions, last.anchor, last.plan.batch) == (2, 0.5, 2)
    assert last.compositions == stages[2].compositions and last.optimizer == stages[2].optimizer
    assert (last.filter.min_similarity, last.filter.starts) == (-1, 2)


def test_two_compositions_of_a_batch_run_and_are_finite() -> None:
    stage = replace(original_stage(2, batch=2, compositions=2, accumulate=1))
    told: list[object] = []
    parts = parts_of({2: stage}, kinds=["compositional with background"])
    (found,) = run(random_networks(SMALL, "fp32"), parts, say=told.append)
    assert told == [found] and len(found.seconds) == len(found.losses) == 2 and found.memory > 0.05
    assert str(found).startswith("stage 2, compositional with background: ") and "loss" in str(found)


def test_a_kind_is_run_once_and_only_where_a_plan_has_it() -> None:
    stages = stages_of_file()
    assert [part.number for part in parts_of(stages, kinds=DISTILLATION, rollouts=[3])] == [1, 1, 1, 1]
    assert [part.kind for part in parts_of({2: stages[2]}, rollouts=[1])] == list(KINDS)
    assert {part.rollout for part in parts_of({2: stages[2]}, kinds=["random_id"], rollouts=[9])} == {1}
    plan = stages[1].plan
    assert kinds_of(plan) == DISTILLATION
    assert kinds_of(replace(plan, random_id=0, noised_id=0, teacher_target=1)) == ["clean_id, teacher's noise"]
    assert kinds_of(replace(plan, random_id=1)) == ["random_id"]
    assert kinds_of(replace(stages[2].plan, compositional_every=1, background_compositional=0)) == ["compositional"]


def test_without_a_clip_that_sees_backgrounds_no_prompt_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "distill.yaml"
    file.write_text("models: {precision: fp32}\nstage2: {stage: {plan: {batch: 1, accumulate: 1}}}", encoding="utf-8")
    arguments = ["--config", str(file), "--stages", "2", "--threads", "1", "--steps", "1", "--device", "cpu"]
    assert main([*arguments, "--kinds", *STAGE2], SMALL) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split(":")[0] for line in lines] == ["stage 2, reconstruction", "stage 2, compositional"]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (None, [], "there is no configuration .*; run this in the project's folder, or name one with --config"),
        ("models: {}\nstage2: {stage: {plan: {bach: 2}}}", [], "stage2.stage.plan has no bach"),
        ("models: {}", ["--batch", "0"], "batch must be a whole number, 1 or more, not 0"),
        ("models: {}", ["--stages", "1", "--kinds", "compositional"], "have no such batches"),
    ],
)
def test_what_cannot_be_run_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, options: list[str], said: str
) -> None:
    file = tmp_path / "distill.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--config", str(file), *options], SMALL)
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(said, error), error
