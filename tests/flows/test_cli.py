"""The console command: exit codes, one clear message, and no heavy import before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.cli import main
from tests.tiny_world import make_pack, make_photos, settings


def adaface(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(
        f"data:\n  sources: [{{path: '{tmp_path}/photos'}}]\n  output: '{tmp_path}/out'\n"
        f"perception:\n  pack: '{tmp_path}/pack'\n",
        encoding="utf-8",
    )
    return path


def test_help_and_version_are_instant():
    """No command loads torch, Ray, Prefect or pydantic before it runs."""
    code = (
        "import sys\nfrom flows.cli import main\n"
        "try:\n    main(['doctor', '--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'ray', 'prefect', 'pydantic', 'insightface', 'onnxruntime', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    project = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout


def test_every_command_of_the_readme_is_there(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for command in ("doctor", "build-dataset", "verify-dataset", "export-pairs"):
        assert command in text


@pytest.mark.parametrize(
    "words", [[], ["build"], ["build-dataset"], ["export-pairs", "only-one"], ["doctor", "--nope"]]
)
def test_wrong_usage_exits_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_bad_configuration_is_one_message_and_exit_2(config, capsys):
    words = ["build-dataset", "--config", str(config), "--set", "data.min_fce=64", "--set", "cluster.workers=0"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("adaface: the configuration has 2 problems")
    assert "did you mean `data.min_face`?" in err and "--set cluster.workers=0" in err
    assert "Traceback" not in err and not out


def test_missing_input_is_named_before_anything_is_made(config, tmp_path, capsys):
    assert main(["build-dataset", "--config", str(config)]) == 2
    assert f"model pack folder {tmp_path}/pack does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_debug_lets_the_error_through(config):
    with pytest.raises(ValueError, match="there is no such file"):
        main(["build-dataset", "--debug", "--config", str(config.with_name("d.yaml"))])


def test_a_missing_package_names_the_remedy(config):
    code = (
        "import sys\nsys.modules['yaml'] = None\nfrom flows.cli import main\n"
        f"sys.exit(main(['build-dataset', '--config', {str(config)!r}]))"
    )
    project = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "the package yaml is missing" in done.stderr and "'.[pipeline]'" in done.stderr


def test_doctor_prints_json_and_fails_for_what_is_broken(config, tmp_path):
    done = adaface("doctor", "--json", "--config", str(config), cwd=tmp_path)
    findings = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    broken = [finding for finding in findings if finding["level"] == "fail"]
    assert {finding["area"] for finding in broken} == {"models", "sources"}
    assert all(finding["remedy"] for finding in broken)


def test_doctor_finds_a_configuration_with_problems(config, capsys):
    assert main(["doctor", "--config", str(config), "--set", "data.min_fce=1"]) == 1
    text = capsys.readouterr().out
    assert "did you mean `data.min_face`?" in text and "1 thing to repair" in text


def test_doctor_wants_a_configuration_to_override(capsys):
    assert main(["doctor", "--set", "data.seed=1"]) == 2
    assert "--config FILE" in capsys.readouterr().err


def test_what_is_no_dataset_is_neither_sound_nor_exported(tmp_path, capsys):
    assert main(["verify-dataset", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "dataset.json is missing" in out and f"{tmp_path}: 1 problem\n" in out
    assert main(["export-pairs", str(tmp_path), str(tmp_path / "pairs")]) == 2
    assert "run the build first" in capsys.readouterr().err
    assert not (tmp_path / "pairs").exists()


def test_the_whole_way_from_photos_to_pairs(tmp_path, capsys):
    """build-dataset, verify-dataset and export-pairs, on photos and models of the tests' own."""
    out, pairs = tmp_path / "out", tmp_path / "pairs"
    photos = make_photos(tmp_path / "photos")
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(settings(photos, make_pack(tmp_path / "pack"), out)), encoding="utf-8")

    built = adaface("build-dataset", "--config", str(file), "--set", "cluster.workers=1", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    counts = json.loads((out / "dataset.json").read_text())["counts"]
    assert counts["accepted"] > 0
    assert f"{counts['accepted']} of {counts['found']} images accepted" in built.stdout

    assert main(["verify-dataset", str(out)]) == 0
    assert capsys.readouterr().out.endswith("sound\n")

    assert main(["export-pairs", str(out), str(pairs)]) == 0
    assert len(list(pairs.rglob("*.jpg"))) == counts["accepted"]

    (out / "shards" / "train-000000.tar").write_bytes(b"")
    assert main(["verify-dataset", str(out)]) == 1
    assert "train-000000" in capsys.readouterr().out
