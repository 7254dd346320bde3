"""`adaface prompts`, `references`, `compare`, `add-evaluation`: what is said of an evaluation without drawing anything."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from setuptools import find_namespace_packages

from adaface.evaluation.prompts import load_prompts
from adaface.evaluation.subjects import check_faces, find_subjects
from adaface.evaluation.summary import summarise
from adaface.miniature.shipped import WEIGHTS
from adaface.perception.faces import FaceAnalyser
from flows.cli import main
from ray_jobs.config_file import load
from ray_jobs.evaluate_config import EvaluateConfig
from tests.tiny_world import make_photos

PROJECT = Path(__file__).resolve().parents[2]


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    people = make_photos(tmp_path / "people", people=2, each=1)
    (people / "person-00" / "metainfo.json").write_text(json.dumps({"person_type": "young woman"}))
    values = {
        "output": str(tmp_path / "out"),
        "subjects": {"folder": str(people), "info": {"person-01": {"person_type": "old man"}}},
        "prompts": {"sets": ["package://adaface.miniature/prompts.yaml"], "limit": 9},
        "generation": {"base": "no/base", "images_per_prompt": 3},
        "methods": [{"kind": "class_word"}],
        "measures": {"faces": {"pack": "no pack"}},
    }
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def test_a_set_in_the_five_columns_of_the_original(tmp_path, capsys):
    out = tmp_path / "anna.txt"
    words = ["--prompts", "live", "community", "--subject", "anna", "--class-word", "young woman", "--out", str(out)]
    assert main(["prompts", *words]) == 0
    assert capsys.readouterr().out == f"{out}: 47 prompts\n"
    lines = rows(out.read_text(encoding="utf-8"))
    assert len(lines) == 47 and all(len(line) == 5 for line in lines)
    number, folder, prompt, long, short = lines[0]
    assert (number, folder) == ("4", "anna-in-a-bamboo-grove-after-rain")
    assert prompt == "a z" + ", " * 14 + ", in a bamboo grove after rain"  # z and 15 commas: 16 vectors
    assert long == "a young woman in a bamboo grove after rain"
    assert short == "a woman in a bamboo grove after rain"
    assert len({line[1] for line in lines}) == 47


def test_the_subjects_of_a_configuration(config, capsys):
    assert main(["prompts", "--config", str(config), "--token", "w", "--tokens", "1"]) == 0
    lines = rows(capsys.readouterr().out)
    assert len(lines) == 18 and {line[0] for line in lines} == {"3"}
    assert lines[0][1:] == [
        "person-00-photo-of-on-the-beach",
        "a photo of a w on the beach",
        "a photo of a young woman on the beach",
        "a photo of a woman on the beach",
    ]
    assert lines[9][3:] == ["a photo of an old man on the beach", "a photo of a man on the beach"]


def test_one_subject_with_another_class_word(config, capsys):
    words = ["--config", str(config), "--subject", "person-01", "--class-word", "elderly wizard"]
    assert main(["prompts", *words]) == 0
    lines = rows(capsys.readouterr().out)
    assert len(lines) == 9 and lines[0][3] == "a photo of an elderly wizard on the beach"


def test_a_value_of_the_configuration_is_changed_as_everywhere(config, capsys):
    words = ["--set", "prompts.limit=2", "--set", "generation.images_per_prompt=7", "--subject", "person-00"]
    assert main(["prompts", "--config", str(config), *words]) == 0
    assert [line[0] for line in rows(capsys.readouterr().out)] == ["7", "7"]


def test_class_words_that_nobody_said_are_those_of_the_run(tmp_path, config, capsys):
    """The face pack says them there, by the faces in the photos."""
    album = tmp_path / "album"
    assert (
        main(["render-faces", str(album), "--identities", "2", "--images", "2", "--faults", "0", "--seed", "909"]) == 0
    )
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    values["subjects"] = {"folder": str(album / "people")}
    values["measures"]["faces"] = {"pack": str(WEIGHTS / "pack"), "detector_sizes": [160], "device": "cpu"}
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    run = load(EvaluateConfig, config)
    subjects = check_faces(find_subjects(run.subjects), FaceAnalyser(run.measures.faces))
    assert {subject.class_word for subject in subjects} != {"person"}
    capsys.readouterr()
    assert main(["prompts", "--config", str(config)]) == 0
    shown = capsys.readouterr()
    (first, *_) = load_prompts(run.prompts.sets, run.prompts.limit)
    assert shown.err == ""
    assert [line[3] for line in rows(shown.out)][::9] == [first.of(subject.class_word) for subject in subjects]


def test_a_pack_that_cannot_be_asked_is_warned_of(config, capsys):
    (config.parent / "people" / "person-00" / "metainfo.json").unlink()
    assert main(["prompts", "--config", str(config)]) == 0
    shown = capsys.readouterr()
    assert rows(shown.out)[0][3] == "a photo of a person on the beach"
    assert shown.err.startswith("warning: nobody says the class word of person-00, and the face pack cannot be asked")
    assert main(["prompts", "--config", str(config), "--class-word", "man"]) == 0
    assert capsys.readouterr().err == ""


def test_what_a_pack_makes_of_reference_photos(tmp_path, capsys):
    album = tmp_path / "album"
    assert (
        main(["render-faces", str(album), "--identities", "2", "--images", "2", "--faults", "0", "--seed", "909"]) == 0
    )
    nobody = album / "people" / "nancy"
    nobody.mkdir()
    Image.new("RGB", (64, 64), "grey").save(nobody / "0.png")
    capsys.readouterr()
    assert main(["references", str(album / "people"), "--pack", str(WEIGHTS / "pack")]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["subject", "faces", "detector", "same", "others"] and len(lines) == 3
    found = {line[:24].strip(): line[24:].split() for line in lines}
    assert found.pop("nancy") == ["0/1", "-", "-", "-", "no", "face"]
    for seen, score, same, others in found.values():
        assert seen == "2/2" and float(score) > 0.7 and float(same) > 0.8 and float(others) < 0.5


def test_an_evaluation_comes_into_the_model_card_of_its_encoder_alone(tmp_path, capsys):
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "adaface.safetensors").write_bytes(b"weights")
    (encoder / "README.md").write_text("# Mine\n", encoding="utf-8")
    section = tmp_path / "model-card-mine.md"
    own = hashlib.sha256(b"weights").hexdigest()
    section.write_text(f"## Evaluation\n\nJudged weights: `adaface.safetensors sha256` {own}.\n", encoding="utf-8")
    for _ in range(2):
        assert main(["add-evaluation", str(encoder), str(section)]) == 0
        assert (encoder / "README.md").read_text(
            encoding="utf-8"
        ) == f"# Mine\n\n{section.read_text(encoding='utf-8')}"
    assert not list(encoder.glob("*.new"))
    (encoder / "adaface.safetensors").write_bytes(b"others")
    before = (encoder / "README.md").read_bytes()
    assert main(["add-evaluation", str(encoder), str(section)]) == 2
    assert "is about other weights than" in capsys.readouterr().err
    assert (encoder / "README.md").read_bytes() == before


def test_nothing_of_the_configuration_is_drawn_or_made(config):
    assert main(["prompts", "--config", str(config)]) == 0
    assert not (config.parent / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompts", "lvie"], "prompts lvie: there is no such file; the sets that come with the package are"),
        (["--prompts", "live", "--tokens", "0"], "--tokens must be at least 1, not 0"),
        (["--prompts", "live", "--out", "no/such/folder/x.txt"], "No such file or directory"),
        (["--config", "CONFIG", "--subject", "person-1"], "did you mean 'person-01'?"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["--config", "CONFIG", "--set", "prompts.limt=8"], "did you mean `prompts.limit`?"),
        (["--prompts", "live", "--set", "prompts.limit=8"], "--set changes a configuration; give one with --config"),
    ],
    ids=["set", "tokens", "out", "subject", "config", "key", "nothing to change"],
)
def test_bad_usage(words, message, config, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prompts", *(str(config) if word == "CONFIG" else word for word in words)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--config", "x", "--prompts", "live"]], ids=["neither", "both"])
def test_either_a_configuration_or_sets(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["prompts", *words])
    assert stop.value.code == 2
    assert "--config" in capsys.readouterr().err


def test_a_list_of_a_set_needs_no_torch():
    code = (
        "import sys\nfrom flows.cli import main\n"
        "assert main(['prompts', '--prompts', 'grid']) == 0\n"
        "heavy = {'torch', 'transformers', 'ray', 'prefect', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 40


def test_the_files_of_prompts_are_installed():
    """Their folders are found as packages, and the patterns of package data take them."""
    tool = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = find_namespace_packages(str(PROJECT), include=tool["packages"]["find"]["include"])
    files = [*(PROJECT / "adaface/evaluation/prompt_sets").iterdir(), *(PROJECT / "adaface/miniature").glob("*.yaml")]
    assert len(files) == 8
    for file in files:
        assert ".".join(file.parent.relative_to(PROJECT).parts) in packages
        assert any(fnmatch(file.name, pattern) for pattern in tool["package-data"]["*"]), file


def test_two_methods_are_compared_category_by_category(tmp_path, capsys):
    methods, categories = ("class-word", "stage1", "stage2"), ("style", "portrait")
    values = {"style": (0.7, 0.5, 0.6), "portrait": (0.1, 0.8, 0.73)}
    keys = [(method, f"s{n}", category) for method in methods for n in range(4) for category in categories]
    scores = {
        "method": [method for method, _, _ in keys],
        "subject": [subject for _, subject, _ in keys],
        "prompt_id": [f"a {category}" for _, _, category in keys],
        "category": [category for _, _, category in keys],
        "k": [0] * len(keys),
        "gap_pack": [values[category][methods.index(method)] + int(s[1:]) for method, s, category in keys],
    }
    summary = summarise(scores, metrics={"gap_pack": "higher"}, baseline="class-word")
    (tmp_path / "summary.json").write_text(json.dumps(summary.to_dict()), encoding="utf-8")
    assert main(["compare", str(tmp_path), "stage2", "stage1"]) == 2
    assert "holds no finished evaluation: scores.parquet missing" in capsys.readouterr().err
    pq.write_table(pa.table(scores), tmp_path / "scores.parquet")

    assert main(["compare", str(tmp_path), "stage2", "stage1", "--confidence", "0.9"]) == 0
    _, _, style, portrait, _ = capsys.readouterr().out.splitlines()
    assert style == (
        "| style | gap_pack | 2.200 | 2.000 | 2.100 | +0.100 [+0.100, +0.100] | 0.500 [0.500, 0.500] given back |"
    )
    assert portrait.endswith("| -0.070 [-0.070, -0.070] | 0.900 [0.900, 0.900] kept |")
    assert main(["compare", str(tmp_path), "stage1", "class-word"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "| category | column | class-word | stage1 | difference |"
    assert main(["compare", str(tmp_path), "stage3", "stage1"]) == 2
    assert "there is no method stage3; there are class-word, stage1, stage2" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), "stage2", "stage1", "--columns", "clip_txt"]) == 2
    assert "the scores have no column clip_txt; they have gap_pack" in capsys.readouterr().err
