"""Stages as the shipped configurations have them, read without pydantic: the same as the jobs read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adaface.distill.run_file import read_run, stage_over_original
from adaface.distill.stage import original_stage
from ray_jobs.distill_config import DistillConfig

CONFIGS = Path(__file__).parents[3] / "configs"
FILES = ("distill-miniature.yaml", "distill-sd15.yaml")


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", FILES)
def test_a_stage_is_what_the_job_makes_of_the_file(name: str, number: int) -> None:
    config = DistillConfig.model_validate(yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8")))
    expected = config.stage1 if number == 1 else config.stage2
    found = read_run(CONFIGS / name, number)
    assert found.stage == expected.stage and found.multiplier == expected.multiplier
    assert found.precision == config.models.precision
    assert (found.filters, found.backgrounds) == (bool(config.models.clip), bool(config.models.vision))


def test_what_is_not_given_is_the_originals() -> None:
    found = stage_over_original(2, {"plan": {"compositions": 2, "rollouts": [1, 3]}, "optimizer": {"rate": "1e-3"}})
    assert found.plan.compositions == 2 and found.plan.rollouts == (1, 3) and found.optimizer.rate == 1e-3
    assert found.plan.steps == original_stage(2).plan.steps == 30_000
    assert found.optimizer.d_coefficient == 0.5 and found.plan.noise == original_stage(2).plan.noise
    assert stage_over_original(1, {}) == original_stage(1)


def test_all_unknown_keys_are_named_with_their_places() -> None:
    with pytest.raises(ValueError) as error:
        stage_over_original(1, {"plam": {}, "plan": {"bach": 3, "noise": {"loud": 1}}}, "stage1.stage")
    said = str(error.value)
    assert "stage1.stage has no plam" in said and "stage1.stage.plan has no bach; it has steps, batch" in said
    assert "stage1.stage.plan.noise has no loud" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"plan": {"batch": 0}}, "stage.plan: .*batch must be a whole number, 1 or more, not 0"),
        ({"plan": [1]}, r"stage.plan must be a section with keys, not \[1\]"),
        ({"plan": None}, "stage.plan must be a section with keys, not None"),
        ({"optimizer": {"rate": "fast"}}, "stage.optimizer.rate must be a number, not 'fast'"),
        ({"anchor": [0]}, "stage: "),
        ([], "stage must be a section with keys"),
    ],
)
def test_a_wrong_value_is_said_with_its_place(given: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        stage_over_original(1, given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {}\nstage1: {rounds: 2}", "file.yaml: stage1 has no rounds; it has init, multiplier, stage, seed"),
        ("models: {}\nstage1: {multiplier: 0}", "stage1.multiplier must be a whole number, 1 or more, not 0"),
        ("models: {}\nstage1: [1]", "stage1 must be a section"),
        ("models: {precision: int8}", "models.precision must be auto, fp32 or bf16, not 'int8'"),
        ("a: [", "not a YAML file"),
        ("sources: []", "has the sections models, data, stage1 and stage2"),
        ("models: {}\nstage1: {stage: {plan: {bach: 3}}}", "file.yaml: stage1.stage.plan has no bach"),
    ],
)
def test_a_file_that_is_none_of_these_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read_run(tmp_path / "file.yaml", 1)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no configuration"):
        read_run(tmp_path / "no.yaml", 1)
