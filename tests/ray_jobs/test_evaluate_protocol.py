"""What an evaluation is known by: contents and settings, not places and machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from adaface.evaluation.subjects import find_subjects
from adaface.miniature.shipped import WEIGHTS
from ray_jobs.config_file import load, resolved_yaml
from ray_jobs.evaluate import run
from ray_jobs.evaluate_config import EvaluateConfig, history_of, with_absolute_paths
from ray_jobs.evaluate_digests import Digests, make_digests
from ray_jobs.evaluate_history import inputs_hash, what_is_run

PROMPTS = "place:\n- {text: 'a {} on a beach', expects: {place: beach}}\n"
MODULE = """
from pathlib import Path

def make(file=None):
    return print

class Named:
    file = Path("mine.bin")
"""


@pytest.fixture
def config(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EvaluateConfig]]:
    """The miniature's, with models, prompts, people and entry points in this folder, by relative paths."""
    for name in ("ana", "bea"):
        (tmp_path / "people" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), "grey").save(tmp_path / "people" / name / "1.png")
    (tmp_path / "models").symlink_to(WEIGHTS)
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    (tmp_path / "evaluation_of_mine.py").write_text(MODULE)
    (tmp_path / "mine.bin").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = "{entry_point: 'evaluation_of_mine:make', settings: {file: mine.bin}}"
    settings = [
        "subjects.folder=people",
        "prompts.sets=[prompts.yaml]",
        "generation.base=models/sd",
        "methods.1.unet=models/teacher/unet",
        f"methods.2={own.replace('{', '{name: mine, kind: entry_point, ', 1)}",
        "measures.faces.pack=models/pack",
        "measures.judges.0.file=models/judge/recogniser.onnx",
        "measures.clip=models/clip",
        f"measures.image_encoders.mine={own}",
    ]
    file = project / "configs" / "evaluate-miniature.yaml"
    yield lambda *overrides: load(EvaluateConfig, file, [*settings, *overrides])
    sys.modules.pop("evaluation_of_mine", None)


def digests(config: EvaluateConfig) -> Digests:
    return make_digests(config, find_subjects(config.subjects))


def test_paths_do_not_count(config: Callable[..., EvaluateConfig]) -> None:
    here = config()
    assert digests(with_absolute_paths(here)) == digests(here)
    assert inputs_hash(with_absolute_paths(here)) == inputs_hash(here) is not None


def test_what_is_asked_for_counts(config: Callable[..., EvaluateConfig], tmp_path: Path) -> None:
    """Files may be edited under their names."""
    seen = [inputs_hash(config())]
    for text in (PROMPTS.replace("on a beach", "in a forest"), PROMPTS.replace("place: beach", "place: forest")):
        (tmp_path / "prompts.yaml").write_text(text)
        seen.append(inputs_hash(config()))
    (tmp_path / "people" / "ana" / "metainfo.json").write_text(json.dumps({"person_type": "old man"}))
    seen.append(inputs_hash(config()))
    assert None not in seen and len(set(seen)) == 4
    (tmp_path / "prompts.yaml").unlink()
    assert inputs_hash(config()) is None


def test_code_and_files_of_entry_points_count(config: Callable[..., EvaluateConfig], tmp_path: Path) -> None:
    first = digests(config())
    for file, content in (("evaluation_of_mine.py", MODULE + "# other\n"), ("mine.bin", "other weights")):
        (tmp_path / file).write_text(content)
        now = digests(config())
        assert now.methods["mine"] != first.methods["mine"] and now.measures != first.measures
        assert now.methods["class-word"] == first.methods["class-word"]
        first = now


def test_files_that_a_classifier_names_itself_count(config: Callable[..., EvaluateConfig], tmp_path: Path) -> None:
    named = config("measures.scene_classifier={entry_point: 'evaluation_of_mine:Named'}")
    first = digests(named)
    (tmp_path / "mine.bin").write_bytes(b"others")
    assert digests(named).models["measures: scene_classifier"] != first.models["measures: scene_classifier"]


def test_another_revision_of_a_model_of_the_hub_is_another_protocol(
    config: Callable[..., EvaluateConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was downloaded is asked where the hub is not."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--owner--clip"
    (repository / "refs").mkdir(parents=True)
    of_the_hub = config("measures.clip=owner/clip")
    seen = []
    for commit in ("a" * 40, "b" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        assert digests(of_the_hub).models["measures: clip"] == f"owner/clip@{commit}"
        seen.append((digests(of_the_hub).measures, what_is_run(of_the_hub)[0]))
    assert seen[0][0] != seen[1][0] and seen[0][1] != seen[1][1]


def test_the_precision_counts_and_the_device_does_not(config: Callable[..., EvaluateConfig]) -> None:
    first = digests(config()).methods
    assert digests(config("generation.device=cpu", "generation.batch=3")).methods == first
    half = digests(config("generation.precision=float16")).methods
    assert not set(half.values()) & set(first.values())


def test_faces_run_as_all_measures_wherever_the_job_does(
    config: Callable[..., EvaluateConfig], tmp_path: Path
) -> None:
    given = config("measures.device=cpu", "measures.batch=7", "measures.faces.threads=3")
    file = tmp_path / "resolved.yaml"
    file.write_text(resolved_yaml(with_absolute_paths(given)))
    faces = with_absolute_paths(load(EvaluateConfig, file)).measures.faces
    assert (faces.device, faces.batch_size, faces.threads) == ("cpu", 7, 3)


# Where the history lies


@pytest.mark.parametrize(
    ("output", "history"),
    [
        ("/data/eval/", "/data/history"),
        ("/eval", "/history"),
        ("s3://b/runs/eval", "s3://b/runs/history"),
        (
            "s3://b/eval?endpoint_override=h%3A9000&scheme=http",
            "s3://b/history?endpoint_override=h%3A9000&scheme=http",
        ),
        ("s3://b", "s3://b/history"),
    ],
)
def test_the_history_is_beside_the_output(config: Callable[..., EvaluateConfig], output: str, history: str) -> None:
    assert history_of(config(f"output='{output}'")) == history


def test_a_relative_output_has_its_history_beside_it(config: Callable[..., EvaluateConfig], tmp_path: Path) -> None:
    assert history_of(config("output=eval")) == str(tmp_path / "history")
    assert with_absolute_paths(config("history=past")).history == str(tmp_path / "past")


def test_a_history_that_would_be_lost_is_refused(
    config: Callable[..., EvaluateConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ValueError, match="history is past, relative to a submitted job's temporary folder"):
        run(config(f"output='{tmp_path}/eval'", "history=past"), address="auto")
