"""The distillation job on tiny networks: what a run leaves behind, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from adaface.distill.checkpoint import read_step
from adaface.encoder.model import AdaFaceEncoder
from data_pipeline.storage import Storage
from data_pipeline.training_set import open_training_set
from ray_jobs.config_file import config_hash, load, resolved_yaml
from ray_jobs.distill import main, run
from ray_jobs.distill_config import DistillConfig, with_absolute_paths
from ray_jobs.distill_preflight import problems_of
from ray_jobs.same_run import LASTING_FAILURE
from ray_jobs.whole_checkpoints import LIST, mend_list
from tests.data_pipeline.streams import keys_of_shard, spoil
from tests.ray_jobs.conftest import tree
from tests.ray_jobs.tiny_training import CLIP, Configs, training

LOG = {
    "checkpoint_every": 2,
    "keep": 2,
    "milestone_every": 2,
    "panel_every": 3,
    "panel_people": 2,
    "trackers": ["tensorboard"],
}


@pytest.fixture(scope="session")
def runs(local_ray: None, configs: Configs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, "run", of six steps: not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    run(configs(folder, log=LOG))
    return folder


def test_what_a_run_leaves_behind(runs: Path) -> None:
    out = runs / "run"
    done = json.loads((out / "run.json").read_text())
    assert (done["steps"], done["stage"], done["encoder"]) == (6, 1, str(out / "encoder"))
    assert AdaFaceEncoder.from_pretrained(out / "encoder")(torch.eye(192)[:1]).shape == (1, 16, 192)
    assert json.loads((out / "progress.json").read_text())["phase"] == "done"
    logs = sorted((out / "log").iterdir())
    assert [file.name for file in logs] == [f"steps-0000000{step}-rank0.jsonl" for step in (2, 4, 6)]
    rows = [json.loads(line) for file in logs for line in file.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert done["loss"] == rows[-1]["loss"]
    named = {"kinds", "recon", "norm", "effective_rate", "samples_per_s", "wait_share", "tflops", "memory_gb"}
    assert all(named <= set(row) for row in rows)
    for row in rows:  # of four samples a batch, long rollouts leave some out
        assert 0 < row["computed_per_s"] <= row["samples_per_s"]
    assert any(row["computed_per_s"] < row["samples_per_s"] for row in rows)
    assert [path.name for path in sorted((out / "panels").iterdir())] == ["step-00000003.png", "step-00000006.png"]
    assert list((out / "tensorboard").iterdir())
    for step in (2, 4, 6):
        assert AdaFaceEncoder.from_pretrained(out / f"milestones/step-{step:08d}").config.id_dim == 192
    assert sorted(path.name for path in out.glob("checkpoint_0*")) == ["checkpoint_00000004", "checkpoint_00000006"]


def test_a_run_that_is_done_is_not_made_again(runs: Path, configs: Configs) -> None:
    before = tree(runs)
    assert run(configs(runs, log=LOG)) == json.loads((runs / "run/run.json").read_text())
    assert {name for name, state in tree(runs).items() if before.get(name) != state} <= {"run/.lock"}


@pytest.mark.parametrize("said", [True, False], ids=["said so", "did not say so"])
def test_a_run_that_ended_but_has_no_encoder(runs: Path, configs: Configs, tmp_path: Path, said: bool) -> None:
    """Whether it was killed before it wrote it, or somebody removed it."""
    shutil.copytree(runs / "run", tmp_path / "run")
    weights = (tmp_path / "run/encoder/adaface.safetensors").read_bytes()
    if said:
        (tmp_path / "run/encoder/adaface.safetensors").unlink()
    else:
        shutil.rmtree(tmp_path / "run/encoder")
        (tmp_path / "run/run.json").unlink()
    done = run(configs(tmp_path, log=LOG))
    assert done["steps"] == 6
    assert (tmp_path / "run/encoder/adaface.safetensors").read_bytes() == weights


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_another_configuration_is_refused(
    runs: Path, configs: Configs, tmp_path: Path, finished: bool
) -> None:
    out = Path(shutil.copytree(runs / "run", tmp_path / "run"))
    if not finished:
        (out / "run.json").unlink()
    before = tree(out)
    with pytest.raises(ValueError, match="another configuration") as error:
        run(configs(tmp_path, stage1={"stage": {"optimizer": {"rate": 2e-3}}, "seed": 7}, log=LOG))
    assert "another name" in str(error.value)
    assert finished or "stage1.seed, stage1.stage.optimizer.rate." in str(error.value)
    assert {name for name, state in tree(out).items() if before.get(name) != state} <= {".lock"}


def test_other_batches_make_another_run_and_other_places_do_not(
    configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    this = configs(tmp_path)
    assert config_hash(this) == config_hash(configs(tmp_path, machines={"workers": 2}))
    assert config_hash(this) != config_hash(configs(tmp_path, machines={"samples_per_worker": 8}))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.yaml").touch()
    here = with_absolute_paths(
        configs("runs", data={"cache": "cache"}, stage1={"stage": {"compositions": "words.yaml"}})
    )
    assert here.stage1.stage.compositions == str(tmp_path / "words.yaml")
    assert (here.output, here.data.cache) == (str(tmp_path / "runs"), str(tmp_path / "cache"))
    assert here.stage2.stage.compositions == configs("runs").stage2.stage.compositions  # package://


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"log": {"milestone_every": 7}}, "milestone_every is 7, which is no multiple of checkpoint_every"),
        ({"machines": {"workers": [4, 2]}}, "the least first"),
        ({"machines": {"workers": [0, 0]}}, "1 or more"),
        ({"stage1": {"stage": {"plan": {"random_low": 1000}}}}, "random_low must be below 1000, not 1000"),
    ],
)
def test_numbers_that_cannot_be(configs: Configs, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        configs(**changes)


def test_numbers_that_do_not_go_together(configs: Configs) -> None:
    stage = {"plan": {"clip_skip": [1, 2, 2, 2]}, "schedule": {"warmup": 6}}
    problems = problems_of(configs(stage1={"stage": stage}))
    assert len(problems) == 2
    assert "clip_skip weighs 4 states of the text encoder" in problems[0] and "has 3" in problems[0]
    assert "schedule.warmup is 6 of 6 steps" in problems[1]


def test_all_that_is_wrong_is_said_before_anything_begins(configs: Configs, tmp_path: Path) -> None:
    wrong = configs(
        tmp_path / "runs",
        stage=2,
        data={"datasets": [str(tmp_path / "faces")], "images": False, "latents": "vae", "augment": {"scale": None}},
        models={"base": str(tmp_path / "base"), "face_pack": "package://adaface.nothing/pack", "vision": CLIP},
        stage2={"stage": {"compositions": str(tmp_path / "words.yaml")}},
    )
    with pytest.raises(ValueError) as error:
        run(wrong)
    said = str(error.value)
    for part in ("faces is no finished dataset", "models.base", "models.face_pack", "models.vision", "words.yaml"):
        assert part in said
    assert "stage2.init is missing" in said
    assert not (tmp_path / "runs").exists()


def test_a_model_that_was_not_downloaded_is_no_name_of_the_hub(
    configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    here = {"base": "models/stable-diffusion", "text_model": "weights/clip", "teacher_tokenizer": "openai/clip"}
    problems = problems_of(configs(models=here))
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["models.base", "models/stable-diffusion"],
        ["models.text_model", "weights/clip"],
    ]


@pytest.mark.parametrize(
    ("machines", "said"),
    [
        ({"cpus_per_worker": 500.0}, r"workers: 1\) asks for 500 CPU where Ray has"),
        ({"workers": [300, 400]}, r"workers: 300\) asks for 300 CPU where Ray has"),
        ({"gpu": True, "workers": 300, "cpus_per_worker": 0.001}, r"workers: 300\) asks for 300 GPU where Ray has"),
    ],
)
def test_more_than_this_machine_has_is_not_waited_for(
    local_ray: None, configs: Configs, tmp_path: Path, machines: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(configs(tmp_path / "runs", machines=machines))


def test_shares_that_the_samples_cannot_give_are_said_without_a_worker(configs: Configs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"flat_share is 0\.3, but no source has the layout"):
        run(configs(tmp_path / "runs", data={"sampling": {"flat_share": 0.3}}))
    assert sorted(path.name for path in (tmp_path / "runs/run").iterdir()) == [".lock", "config.yaml"]


def test_half_an_encoder_to_start_from_is_refused(configs: Configs, tmp_path: Path) -> None:
    with training(configs()) as (trainer, _):
        trainer.task.encoder.save_pretrained(tmp_path / "round1", teacher="reference")
    weights = tmp_path / "round1/adaface.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (problem,) = problems_of(configs(stage=2, stage2={"init": str(tmp_path / "round1")}))
    assert problem.startswith("stage2.init: ") and "is not a whole safetensors file" in problem


def test_an_encoder_of_other_faces_is_refused(configs: Configs) -> None:
    miniature = "package://adaface.miniature/weights/encoder"
    (problem,) = problems_of(configs(stage=2, stage2={"init": miniature, "multiplier": 2}))
    assert "reads faces of 64 numbers, and those of" in problem and "have 192" in problem


def test_a_folder_may_be_called_as_a_precision(
    configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fp32").mkdir()
    monkeypatch.chdir(tmp_path)
    assert with_absolute_paths(configs(models={"precision": "fp32"})).models.precision == "fp32"


def test_an_endpoint_stays_behind_the_name_of_a_run(configs: Configs) -> None:
    this = configs(output="s3://bucket/runs?endpoint_override=localhost:9000&scheme=http", name="one")
    assert this.folder == "s3://bucket/runs/one?endpoint_override=localhost:9000&scheme=http"
    assert Storage(this.folder).locate("encoder").startswith("s3://bucket/runs/one/encoder?endpoint_override=")


def test_rows_count_what_was_skipped_in_their_step(
    tiny: tuple[Path, Path], local_ray: None, configs: Configs, tmp_path: Path
) -> None:
    faces = Path(shutil.copytree(tiny[1] / "out", tmp_path / "faces"))
    for key in keys_of_shard(faces, 1):
        spoil(faces, key, "jpg")
    skipping = configs(tmp_path / "runs", data={"datasets": [str(faces)], "on_bad": "skip"})
    run(skipping)
    logs = sorted((tmp_path / "runs/run/log").iterdir())
    rows = [json.loads(line) for file in logs for line in file.read_text().splitlines()]
    with training(skipping) as (trainer, batches):
        before = 0
        for row in rows:
            trainer.step()
            now = sum(batches.skipped.values())
            assert row.get("skipped_samples", 0) == now - before
            before = now
    assert before > 0


def test_sizes_that_do_not_go_together(configs: Configs, tmp_path: Path) -> None:
    miniature = "package://adaface.miniature/weights/pack"
    with pytest.raises(ValueError) as error:
        run(configs(tmp_path / "runs", data={"augment": {"size": 64}}, models={"face_pack": miniature}))
    said = str(error.value)
    assert "data.augment.size is 64 px" in said and "set data.augment.size to 32" in said
    assert "are 192 numbers each, but models.face_pack gives 64" in said


def test_four_copies_and_then_two_are_refused(configs: Configs, tmp_path: Path) -> None:
    """As the original's README asks for them."""
    with training(configs(stage1={"multiplier": 4})) as (trainer, _):
        trainer.task.encoder.save_pretrained(tmp_path / "round2", teacher="reference")
    stage2 = {"init": str(tmp_path / "round2"), "multiplier": 2}
    with pytest.raises(
        ValueError, match=r"stage2.multiplier is 2, but .*round2 has 4.* Ask for 4 or a multiple of it"
    ):
        run(configs(tmp_path / "runs", stage=2, stage2=stage2))


def test_a_shard_that_is_gone_stops_the_start(tiny: tuple[Path, Path], configs: Configs, tmp_path: Path) -> None:
    faces = Path(shutil.copytree(tiny[1] / "out", tmp_path / "faces"))
    (faces / "shards/train-000001.tar").unlink()
    with pytest.raises(ValueError, match=r"train-000001\.tar.*\n.*on_bad: skip"):
        run(configs(tmp_path / "runs", data={"datasets": [str(faces)]}))


def test_the_resolved_configuration_is_the_configuration(project: Path, tmp_path: Path) -> None:
    this = load(DistillConfig, project / "configs/distill-miniature.yaml")
    (tmp_path / "config.yaml").write_text(resolved_yaml(this))
    assert load(DistillConfig, tmp_path / "config.yaml") == this


def test_exit_status(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(project / "configs/distill-miniature.yaml"), "--set", "log.kep=3"]) == 2
    assert "did you mean `log.keep`?" in capfd.readouterr().out


# Storage that fails


@pytest.mark.parametrize("damage", ["the list", "the last checkpoint"])
def test_a_run_goes_on_from_the_checkpoints_that_are_whole(
    local_ray: None, runs: Path, configs: Configs, tmp_path: Path, damage: str
) -> None:
    out = Path(shutil.copytree(runs / "run", tmp_path / "run"))
    weights = (out / "encoder/adaface.safetensors").read_bytes()
    (out / "run.json").unlink()
    shutil.rmtree(out / "encoder")
    damaged = out / LIST if damage == "the list" else out / "checkpoint_00000006/trainer/optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    mend_list(Storage(out))
    listed = json.loads((out / LIST).read_text())["checkpoint_results"]
    assert [each["metrics"]["step"] for each in listed] == ([4, 6] if damage == "the list" else [4])
    assert run(configs(tmp_path, log=LOG))["steps"] == 6
    assert (out / "encoder/adaface.safetensors").read_bytes() == weights


def test_without_a_whole_checkpoint_there_is_no_list(runs: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(runs / "run", tmp_path / "run"))
    for name in ("checkpoint_00000004", "checkpoint_00000006"):
        (out / name / "trainer/state.json").write_text("{")
    mend_list(Storage(out))
    assert not (out / LIST).exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_would_fail_again_is_not_tried_again(
    local_ray: None, tiny: tuple[Path, Path], configs: Configs, tmp_path: Path, workers: int
) -> None:
    """However often workers that died may be started again."""
    faces = Path(shutil.copytree(tiny[1] / "out", tmp_path / "faces"))
    machines = {"retries": -1, "workers": workers, "cpus_per_worker": 0.5}
    this = configs(tmp_path, data={"datasets": [str(faces)]}, log=LOG, machines=machines)
    open_training_set(this.data.datasets)  # which is sound, and then no more
    shard = faces / "shards/train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:512] + bytes(len(shard.read_bytes()) - 512))
    with pytest.raises(ValueError, match="train-000000"):
        run(this)
    assert json.loads((tmp_path / "run/progress.json").read_text())["phase"] == "failed"
    assert "train-000000" in json.loads((tmp_path / "run" / LASTING_FAILURE).read_text())["error"]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # four times a worker is started
def test_a_checkpoint_that_cannot_be_stored(local_ray: None, runs: Path, configs: Configs, tmp_path: Path) -> None:
    """The run stops, and goes on from the last good checkpoint once there is room."""
    obstacle = tmp_path / "run/checkpoint_00000006"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("here is no room for a folder")
    this = configs(tmp_path, log=LOG, machines={"retries": 1})
    with pytest.raises(Exception, match="checkpoint_00000006"):
        run(this)
    assert json.loads((tmp_path / "run/progress.json").read_text())["phase"] == "failed"
    assert read_step(tmp_path / "run/checkpoint_00000004") == 4
    obstacle.unlink()
    assert run(this)["steps"] == 6
    name = "run/encoder/adaface.safetensors"
    assert (tmp_path / name).read_bytes() == (runs / name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_may_be_in_an_object_store(
    s3: Callable[[], str], local_ray: None, runs: Path, configs: Configs, tmp_path: Path
) -> None:
    this = configs(s3(), log={"trackers": ["tensorboard"]})
    there = Storage(f"{this.output}/run")
    weights = (runs / "run/encoder/adaface.safetensors").read_bytes()
    assert run(this)["encoder"] == there.locate("encoder")
    assert there.read_bytes("encoder/adaface.safetensors") == weights
    assert there.list("log") == ["log/steps-00000003-rank0.jsonl", "log/steps-00000006-rank0.jsonl"]
    assert there.list("tensorboard") and there.read_json("progress.json")["phase"] == "done"
    # goes on from the checkpoint in the store, which is the last one
    there.delete("run.json")
    there.delete("encoder/config.json")
    assert run(this)["steps"] == 6
    assert there.read_bytes("encoder/adaface.safetensors") == weights and there.exists("encoder/config.json")
