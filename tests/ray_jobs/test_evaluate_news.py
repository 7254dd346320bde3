"""What `evaluate/nightly` asks before it starts anything: is there an encoder, and one that was not evaluated before?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from adaface.evaluation.methods.encoder import newest_encoder
from ray_jobs.config_file import ConfigError, load
from ray_jobs.distill_config import DistillConfig
from ray_jobs.evaluate_config import EvaluateConfig
from ray_jobs.evaluate_history import SCHEMA, what_is_run, write_history
from ray_jobs.evaluate_news import News, news_of
from tests.tiny_evaluation import make_encoder, make_people, small_settings

FAILED = "ours gap_judge: 0.100 in night-2, which failed"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_people(tmp_path_factory.mktemp("people"))


@pytest.fixture
def config(people: Path, tmp_path: Path, project: Path) -> Callable[..., EvaluateConfig]:
    """The small evaluation of what is in runs/ or elsewhere/, with its history in history/."""

    def make(*overrides: str) -> EvaluateConfig:
        folders = f"methods.1.path=['{tmp_path / 'runs'}', '{tmp_path / 'elsewhere'}']"
        settings = small_settings(people, tmp_path / "runs", tmp_path / "out", folders, *overrides)
        return load(EvaluateConfig, project / "configs" / "evaluate-miniature.yaml", settings)

    return make


def row(config: EvaluateConfig, night: int, level: str | None, **other: Any) -> dict[str, Any]:
    """Of the encoder that is there now."""
    protocol, files = what_is_run(config)
    return {
        "run": f"night-{night}",
        "finished": f"2026-01-0{night}T03:30:00+00:00",
        "protocol_hash": protocol,
        "method": "ours",
        "method_hash": files["ours"],
        "column": "gap_judge",
        "mean": 0.1,
        "low": 0.05,
        "high": 0.15,
        "level": level,
        **other,
    }


def test_before_the_first_training_there_is_no_encoder_yet(
    config: Callable[..., EvaluateConfig], tmp_path: Path
) -> None:
    (said,) = news_of(config()).waiting
    assert said.startswith("ours: there is no folder") and str(tmp_path / "runs") in said and "elsewhere" in said
    (tmp_path / "runs").mkdir()
    (said,) = news_of(config(f"methods.1.path='{tmp_path / 'runs'}'")).waiting
    assert said.startswith(f"ours: {tmp_path / 'runs'}: there is no encoder")


def test_what_is_wrong_is_said_at_once_and_waits_for_no_encoder(
    config: Callable[..., EvaluateConfig], tmp_path: Path
) -> None:
    (tmp_path / "twice.txt").write_text("a {} in the snow\na {} in the snow.\n")
    wrong = ["subjects.folder=nowhere", f"prompts.sets=['{tmp_path / 'twice.txt'}']", "measures.metrics=[faces]"]
    with pytest.raises(ConfigError) as error:
        news_of(config(*wrong))
    assert len(error.value.problems) == 3, error.value
    of_the_hub = "methods.2={name: other, kind: encoder, path: nobody/nothing-of-this-name}"
    assert [said.partition(":")[0] for said in news_of(config(of_the_hub)).waiting] == ["ours"]


def test_a_known_encoder_is_no_news_and_fails_as_its_last_run_did(
    config: Callable[..., EvaluateConfig], tmp_path: Path
) -> None:
    make_encoder(tmp_path / "elsewhere" / "stage1" / "checkpoint_10" / "encoder")
    now = config()
    assert news_of(now) == News([])
    write_history(now, "night-2", [row(now, 2, "fail"), row(now, 2, "ok", column="clip_text")])
    write_history(now, "night-1", [row(now, 1, None, method_hash="older weights", mean=0.5)])
    news = news_of(now)
    assert news.known == ["ours"] and [finding.line for finding in news.failures] == [FAILED]
    write_history(now, "night-3", [row(now, 3, "ok")])  # somebody accepted the loss
    assert news_of(now) == News([], ["ours"])

    make_encoder(tmp_path / "runs" / "stage1" / "checkpoint_5" / "encoder", seed=2)
    assert newest_encoder(now.methods[1].path).is_relative_to(tmp_path / "runs")  # type: ignore[union-attr]
    assert news_of(now) == News([])
    shutil.rmtree(tmp_path / "runs")
    assert news_of(now).known == ["ours"]


def test_a_history_from_before_levels_were_kept(config: Callable[..., EvaluateConfig], tmp_path: Path) -> None:
    make_encoder(tmp_path / "runs" / "step-1")
    now = config()
    old = pa.schema([field for field in SCHEMA if field.name != "level"])
    (tmp_path / "history").mkdir()
    pq.write_table(pa.Table.from_pylist([row(now, 1, "fail")], schema=old), tmp_path / "history" / "night-1.parquet")
    assert news_of(now) == News([], ["ours"])


def test_the_schedule_looks_wherever_the_deployments_train(project: Path) -> None:
    deployments = {
        each["name"]: each for each in yaml.safe_load((project / "prefect.yaml").read_text())["deployments"]
    }
    nightly = deployments["nightly"]["parameters"]
    config = load(EvaluateConfig, project / nightly["config"], nightly["overrides"])
    (newest,) = (method for method in config.methods if method.kind == "encoder")
    pipeline = yaml.safe_load((project / deployments["pipeline"]["parameters"]["config"]).read_text())["pipeline"]
    assert f"{pipeline['output']}/runs" in newest.path
    for name in ("distill-stage1", "distill-stage2"):
        told = deployments[name]["parameters"]
        assert load(DistillConfig, project / told["config"], told["overrides"]).output in newest.path


def test_runs_of_a_deployment_wait_for_each_other(project: Path) -> None:
    for each in yaml.safe_load((project / "prefect.yaml").read_text())["deployments"]:
        assert each["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}, each["name"]
