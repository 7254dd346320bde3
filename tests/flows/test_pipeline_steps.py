"""What a pipeline does next, and what it need not do again: decided from the files that its jobs leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli import _parser
from flows.pipeline_local import run_pipeline
from flows.pipeline_preflight import problems_here
from flows.pipeline_steps import Step, draw_album, load_pipeline, step_names, steps
from ray_jobs.config import DatasetConfig
from ray_jobs.config_file import ConfigError, config_hash, load, resolved_yaml
from ray_jobs.distill_config import DistillConfig
from ray_jobs.evaluate_config import EvaluateConfig
from ray_jobs.pipeline_config import AlbumConfig, flattened

Load = Callable[..., DatasetConfig]
ENCODER_FILES = ["encoder/config.json", "encoder/adaface.safetensors"]
SHARDS = [{"name": "train-000000.tar", "samples": 9, "bytes": 10240, "sha256": "ab" * 32}]


@pytest.fixture
def pipeline(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """configs/miniature.yaml with its outputs here, and with small albums; arguments are overrides."""
    monkeypatch.chdir(project)

    def of(*overrides: str) -> DatasetConfig:
        return load_pipeline("configs/miniature.yaml", [*places(tmp_path), *overrides])

    return of


def places(folder: Path) -> list[str]:
    return [
        f"data.output='{folder}/dataset'",
        f"data.sources.0.path='{folder}/album/people'",
        f"data.sources.1.path='{folder}/album/flat'",
        f"pipeline.output='{folder}/out'",
        f"pipeline.draw=[{{folder: '{folder}/album', identities: 1, images: 2, flat: 1}}]",
        f"pipeline.evaluate.changes={{subjects: {{folder: '{folder}/album/people'}}}}",
    ]


def leave_result(step: Step, shards: list[dict[str, Any]] = SHARDS) -> None:
    """What the job of a step would leave, as far as the steps after it look at it."""
    if isinstance(step.config, AlbumConfig):
        draw_album(step.config)
        return
    folder = Path(step.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(resolved_yaml(step.config))
    for name in {"distill": ENCODER_FILES, "evaluate": ["report/index.html"]}.get(step.job, []):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    name = {"build-dataset": "dataset.json", "distill": "run.json", "evaluate": "summary.json"}[step.job]
    (folder / name).write_text(json.dumps({"config_hash": config_hash(step.config), "shards": shards}))


def go_through(config: DatasetConfig, shards: list[dict[str, Any]] = SHARDS) -> dict[str, Step]:
    """All steps by name; `done` says which of them had nothing to do."""
    found = {}
    for step in steps(config):
        if not step.done:
            leave_result(step, shards)
        found[step.name] = step
    return found


def made(found: dict[str, Step]) -> list[str]:
    return [name for name, step in found.items() if not step.done]


def test_each_step_gets_what_was_made_before_it(pipeline: Load, tmp_path: Path) -> None:
    config = pipeline()
    found = go_through(config)
    assert [*found] == ["album-album", "dataset", "stage1", "stage1-round2", "stage2", "evaluation"]
    assert [*found] == step_names(config.pipeline) and made(found) == [*found]

    rounds = [found[name].config for name in ("stage1", "stage1-round2", "stage2")]
    assert all(isinstance(each, DistillConfig) for each in rounds)
    assert [each.stage for each in rounds] == [1, 1, 2]
    assert {tuple(each.data.datasets) for each in rounds} == {(f"{tmp_path}/dataset",)}
    runs = f"{tmp_path}/out/runs"
    assert [each.run_config.init for each in rounds] == [
        None,
        f"{runs}/stage1/encoder",
        f"{runs}/stage1-round2/encoder",
    ]
    assert [found[name].output for name in ("stage1", "stage2")] == [f"{runs}/stage1", f"{runs}/stage2"]

    evaluation = found["evaluation"].config
    assert isinstance(evaluation, EvaluateConfig)
    names = [method.name for method in evaluation.methods]
    assert names == ["class-word", "teacher", "stage1", "stage1-round2", "stage2"]
    assert evaluation.methods[-1].path == f"{runs}/stage2/encoder"


SECOND_SEED = [
    'pipeline.rounds.3={"name": "seed7", "stage": 1, "after": "dataset", "changes": {"stage1": {"seed": 7}}}',
    'pipeline.rounds.4={"name": "seed7-stage2", "stage": 2}',
    'pipeline.rounds.5={"name": "other", "stage": 2, "after": "stage1-round2", "changes": {"stage2": {"multiplier": 4}}}',
]


def test_rounds_branch_where_they_say_what_they_come_after(pipeline: Load, tmp_path: Path) -> None:
    go_through(pipeline())
    found = go_through(pipeline(*SECOND_SEED))
    assert made(found) == ["seed7", "seed7-stage2", "other", "evaluation"]
    inits = {name: found[name].config.run_config.init for name in ("seed7", "seed7-stage2", "other")}
    runs = f"{tmp_path}/out/runs"
    assert inits == {
        "seed7": None,  # what the file of the training says
        "seed7-stage2": f"{runs}/seed7/encoder",
        "other": f"{runs}/stage1-round2/encoder",
    }

    changed = go_through(pipeline(*SECOND_SEED, "pipeline.rounds.3.changes.stage1.seed=8"))
    assert made(changed) == ["seed7", "seed7-stage2", "evaluation"]
    changed = go_through(pipeline(*SECOND_SEED, "pipeline.rounds.1.changes.stage1.seed=8"))
    assert made(changed) == ["stage1-round2", "stage2", "other", "evaluation"]


def test_the_evaluation_depends_on_every_branch(pipeline: Load) -> None:
    go_through(pipeline(*SECOND_SEED))
    found = go_through(pipeline(*SECOND_SEED, "pipeline.rounds.4.changes.stage2.seed=9"))
    assert made(found) == ["seed7-stage2", "evaluation"]  # not the last of the list


def test_what_is_done_is_not_done_again(pipeline: Load) -> None:
    first = go_through(pipeline())
    again = go_through(pipeline())
    assert made(again) == []
    assert {name: step.output for name, step in again.items()} == {name: step.output for name, step in first.items()}


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        ("out/runs/stage1/encoder/config.json", "stage1"),
        ("out/runs/stage2/encoder/adaface.safetensors", "stage2"),
        ("out/runs/stage1-round2/run.json", "stage1-round2"),
        ("out/evaluation/report/index.html", "evaluation"),
        ("out/evaluation/summary.json", "evaluation"),
    ],
)
def test_what_is_on_record_but_gone_is_made_again(pipeline: Load, tmp_path: Path, lost: str, again: str) -> None:
    first = go_through(pipeline())
    (tmp_path / lost).unlink()
    found = go_through(pipeline())
    assert made(found) == [again]
    assert found[again].output == first[again].output
    assert made(go_through(pipeline())) == []


def test_a_change_is_felt_by_the_steps_after_it_alone(pipeline: Load, tmp_path: Path) -> None:
    go_through(pipeline())
    changed = go_through(pipeline("pipeline.rounds.2.changes.stage2.seed=7"))
    assert made(changed) == ["stage2", "evaluation"]
    assert changed["stage2"].output == f"{tmp_path}/out/runs/stage2-2"  # beside the older one
    assert changed["evaluation"].config.methods[-1].path == f"{tmp_path}/out/runs/stage2-2/encoder"

    back = go_through(pipeline())
    assert made(back) == ["evaluation"]  # whose folder has the other one's pictures
    assert back["stage2"].output == f"{tmp_path}/out/runs/stage2"

    earlier = go_through(pipeline("pipeline.rounds.0.changes.stage1.seed=7"))
    assert made(earlier) == ["stage1", "stage1-round2", "stage2", "evaluation"]


def test_the_evaluation_depends_on_what_it_reads(pipeline: Load, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a {} on a beach")
    own = f"pipeline.evaluate.changes.prompts={{sets: ['{prompts}']}}"
    go_through(pipeline(own))
    assert made(go_through(pipeline(own))) == []
    prompts.write_text("a {} in a forest")
    assert made(go_through(pipeline(own))) == ["evaluation"]
    (person,) = (tmp_path / "album" / "people").iterdir()
    (person / "metainfo.json").write_text('{"person_type": "old man"}')
    assert made(go_through(pipeline(own))) == ["evaluation"]
    assert made(go_through(pipeline(own))) == []
    prompts.unlink()  # as where only the machines of a cluster see it
    assert [made(go_through(pipeline(own))) for _ in range(2)] == [["evaluation"]] * 2


def test_machines_and_logs_change_nothing(pipeline: Load) -> None:
    go_through(pipeline())
    machines = "pipeline.distill.changes={machines: {workers: 2}, log: {keep: 1}, data: {threads: 0}}"
    assert made(go_through(pipeline(machines, "cluster.workers=1"))) == []


def test_other_shards_are_other_data_but_a_rule_that_changes_none_is_not(pipeline: Load) -> None:
    go_through(pipeline())
    assert made(go_through(pipeline("data.min_side=150"))) == ["dataset"]
    other = [{**SHARDS[0], "sha256": "cd" * 32}]
    assert made(go_through(pipeline("data.min_side=151"), other)) == [
        "dataset",
        "stage1",
        "stage1-round2",
        "stage2",
        "evaluation",
    ]


def test_a_dataset_that_somebody_else_has_built_over_is_built_again(pipeline: Load, tmp_path: Path) -> None:
    go_through(pipeline())
    file = tmp_path / "dataset" / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "config_hash": "of something else"}))
    assert made(go_through(pipeline())) == ["dataset"]


def test_a_step_that_was_broken_off_is_taken_up_in_its_folder(pipeline: Load, tmp_path: Path) -> None:
    for step in steps(pipeline()):
        if step.name == "stage1":
            Path(step.output).mkdir(parents=True)
            (Path(step.output) / "config.yaml").write_text(
                resolved_yaml(step.config)
            )  # and then the machine went down
            break
        leave_result(step)
    found = go_through(pipeline())
    assert made(found) == ["stage1", "stage1-round2", "stage2", "evaluation"]
    assert found["stage1"].output == f"{tmp_path}/out/runs/stage1"


def test_a_run_of_somebody_is_left_alone(pipeline: Load, tmp_path: Path) -> None:
    mine = tmp_path / "out/runs/stage1"
    mine.mkdir(parents=True)
    (mine / "config.yaml").write_text("# mine")
    assert go_through(pipeline())["stage1"].output == f"{tmp_path}/out/runs/stage1-2"
    assert [*mine.iterdir()] == [mine / "config.yaml"]


def test_a_job_that_leaves_nothing_to_be_seen_stops_the_pipeline(pipeline: Load) -> None:
    waiting = steps(pipeline())
    leave_result(next(waiting))
    assert next(waiting).name == "dataset"
    with pytest.raises(FileNotFoundError, match=r"dataset\.json cannot be seen from here.*`data\.output`"):
        next(waiting)


def test_another_album_is_neither_used_nor_drawn_over(pipeline: Load, tmp_path: Path) -> None:
    go_through(pipeline())
    with pytest.raises(ValueError, match=r"holds another album: seed 0 instead of 5"):
        next(steps(pipeline("pipeline.draw.0.seed=5")))


def test_on_a_cluster_paths_are_absolute_and_keys_the_same(
    pipeline: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    """What a cluster has made is not made again by this machine alone, though its configurations read otherwise."""
    (tmp_path / "configs").symlink_to(project / "configs")
    monkeypatch.chdir(tmp_path)
    config = load_pipeline("configs/miniature.yaml", places(Path(".")))
    there = []
    for step in steps(config, absolute=True):
        leave_result(step)
        there.append(step)
    sent = there[2].config
    assert isinstance(sent, DistillConfig) and sent.data.datasets == [str(tmp_path / "dataset")]
    here = [step for step in steps(config) if step.done or leave_result(step) is None]
    assert [step.key for step in here] == [step.key for step in there]
    assert [step.name for step in here if not step.done] == ["dataset"]  # looked at again; its shards are the same


def test_all_files_are_checked_before_anything_is_done(pipeline: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        pipeline("pipeline.rounds.0.changes.stage1.sed=3", "pipeline.evaluate.changes.generation.stepz=2")
    first, second = caught.value.problems
    assert first.startswith("round stage1: ") and "did you mean `stage1.seed`?" in first
    assert second.startswith("evaluation: ") and "generation.steps" in second


def test_what_a_later_step_lacks_is_said_before_the_first(pipeline: Load, tmp_path: Path) -> None:
    lacking = pipeline(
        "pipeline.rounds.1.changes.models.teacher_unet=models/arc2face/unet",
        "pipeline.rounds.2.changes.stage2.stage.compositions=nowhere.yaml",
        "pipeline.rounds.2.changes.stage2.stage.plan.steps=20",
        "pipeline.evaluate.changes.measures.clip=/gone/clip",
    )
    with pytest.raises(ConfigError) as caught:
        run_pipeline(lacking)
    unet, warmup, words, clip = caught.value.problems
    assert "models.teacher_unet: models/arc2face/unet: there is no such folder" in unet
    assert "schedule.warmup is 20 of 20 steps" in warmup and "nowhere.yaml" in words
    assert clip.startswith("configs/evaluate-miniature.yaml: ") and "/gone/clip" in clip
    assert not list(tmp_path.iterdir())
    assert problems_here(pipeline()) == []


def test_a_round_that_is_done_needs_no_models(pipeline: Load, tmp_path: Path) -> None:
    moved = pipeline("pipeline.rounds.0.changes.models.teacher_unet=/gone/unet")
    assert len(problems_here(moved)) == 1
    go_through(moved)
    assert problems_here(moved) == []
    (problem,) = problems_here(pipeline("pipeline.rounds.0.changes.models.teacher_unet=/elsewhere/unet"))
    assert "/elsewhere/unet" in problem  # another round than that which is done
    (tmp_path / "dataset/dataset.json").unlink()  # the next may have other shards
    assert len(problems_here(moved)) == 1


def test_a_lineage_that_takes_keys_and_values_away_is_refused(pipeline: Load) -> None:
    with pytest.raises(ConfigError, match="stage2: its multiplier is 1, but stage1-round2 before it has 2"):
        pipeline("pipeline.rounds.2.changes.stage2.multiplier=1")
    branch = (
        'pipeline.rounds.3={"name": "other", "stage": 2, "after": "stage1", "changes": {"stage2": {"multiplier": 1}}}'
    )
    assert pipeline(branch).pipeline.rounds[3].after == "stage1"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("pipeline.rounds.1.name=stage1", "several rounds are called stage1"),
        ("pipeline.rounds.1.name=dataset", "a round cannot be called dataset"),
        ("pipeline.rounds.1.name=teacher", "methods called as rounds are: teacher"),
        (
            "pipeline.rounds.1.after=stage2",
            "round stage1-round2 comes after 'stage2'; before it there are dataset, stage1",
        ),
        ("pipeline.rounds.1.nam=x", "did you mean `pipeline.rounds.1.name`?"),
        ("pipeline=null", "the section `pipeline` is missing"),
    ],
)
def test_names_that_cannot_be_are_refused(pipeline: Load, override: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pipeline(override)
    assert problem in str(caught.value)


def test_a_build_alone_does_not_mind_what_comes_after_it(pipeline: Load) -> None:
    whole, alone = pipeline(), pipeline("pipeline.output=elsewhere")
    assert config_hash(whole) == config_hash(alone)
    assert load(DatasetConfig, "configs/miniature.yaml").pipeline is not None


@pytest.mark.parametrize("config", ["configs/miniature.yaml", "configs/sd15.yaml"])
def test_the_shipped_pipelines_are_valid(project: Path, monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    monkeypatch.chdir(project)
    section = load_pipeline(config, []).pipeline
    assert section is not None and [each.stage for each in section.rounds] == [1, 1, 2]


@pytest.mark.parametrize(("changes", "rounds"), [("seeds", 9), ("ablation", 16)])
def test_what_the_results_were_made_with_is_valid(
    project: Path, monkeypatch: pytest.MonkeyPatch, changes: str, rounds: int
) -> None:
    monkeypatch.chdir(project)
    given = ["pipeline", "--config", "configs/miniature.yaml", "--changes", f"configs/changes/{changes}.yaml"]
    section = load_pipeline("configs/miniature.yaml", _parser().parse_args(given).overrides).pipeline
    assert section is not None and section.output == f"out/{changes}" and len(section.rounds) == rounds
    others = [each.name for each, before in section.starts() if each.stage == 2 and before is None]
    assert len(others) == (rounds if changes == "ablation" else 0)  # a row of the ablation starts where all others do


def test_the_demo_is_the_miniature_made_short(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    overrides = ["--changes", "configs/changes/demo.yaml", "--set", "pipeline.output=elsewhere"]
    given = _parser().parse_args(["pipeline", "--config", "configs/miniature.yaml", *overrides]).overrides
    config = load_pipeline("configs/miniature.yaml", given)
    assert config.pipeline is not None and config.pipeline.output == "elsewhere"  # what comes later wins
    folders = [album.folder for album in config.pipeline.draw]
    assert config.data.sources[0].path == f"{folders[0]}/people"
    assert config.pipeline.evaluate.changes["subjects"]["folder"] == f"{folders[1]}/people"


def test_a_file_of_changes_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (None, "- a list", "a: [unclosed"):
        file = tmp_path / "changes.yaml"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
        with pytest.raises(SystemExit) as stop:
            _parser().parse_args(["pipeline", "--config", "c.yaml", "--changes", str(file)])
        assert stop.value.code == 2 and "changes.yaml" in capsys.readouterr().err


def test_changes_are_said_as_overrides() -> None:
    changes = {"a": {"b": None, "c": [1, {"x": "y: z"}], "d": ""}, "e": 1e-05, "f": "1", "g": {}}
    assert [*flattened(changes)] == ["a.b=null", "a.c=[1, {x: 'y: z'}]", "a.d=''", "e=1.0e-05", "f='1'", "g={}"]
