"""Bad input: everything that is wrong is told at once, before a network is loaded."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaface.evaluation.config import EvaluationConfig
from adaface.evaluation.preflight import problems
from adaface.model_path import model_path
from tests.adaface.encoder.tiny_encoder import ID_DIM, encoder
from tests.tiny_world import make_pack, make_photos

PROJECT = Path(__file__).resolve().parents[3]
SD = "package://adaface.miniature/weights/sd"


def painter(side: int, generation: object) -> None: ...


def classifier(generation: object) -> None: ...


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """people/, pack/ (ID embeddings of 192 values), other.onnx (another recogniser), encoders/step-1 and step-2."""
    root = tmp_path_factory.mktemp("world")
    make_photos(root / "people", people=2, each=3)
    make_pack(root / "pack")
    make_pack(root / "other", strength=3)
    for step in (1, 2):
        encoder(id_dim=ID_DIM).save_pretrained(root / "encoders" / f"step-{step}")
    return root


@pytest.fixture
def values(world: Path) -> dict[str, Any]:
    """A configuration with nothing wrong in it."""
    return copy.deepcopy(
        {
            "output": str(world / "out"),
            "subjects": {"folder": str(world / "people"), "given": 2},
            "prompts": {"sets": ["package://adaface.miniature/prompts.yaml"]},
            "generation": {"base": SD},
            "methods": [
                {"kind": "class_word"},
                {"kind": "teacher", "unet": "owner/arc2face/arc2face", "text_encoder": f"{SD}/text_encoder"},
                {
                    "kind": "entry_point",
                    "name": "own",
                    "entry_point": "fractions:Fraction",
                    "settings": {"numerator": 1},
                },
            ],
            "measures": {
                "faces": {"pack": str(world / "pack")},
                "judges": [{"name": "judge", "file": str(world / "other" / "rec_tiny.onnx")}],
                "clip": "package://adaface.miniature/weights/clip",
                "image_encoders": {"dino": {"entry_point": "adaface.miniature.scene_reader:PictureEncoder"}},
                "scene_classifier": {"entry_point": "adaface.miniature.scene_reader:SceneReader"},
            },
        }
    )


def found(values: dict[str, Any]) -> list[str]:
    return problems(EvaluationConfig.model_validate(values))


def test_nothing_is_wrong(values):
    assert found(values) == []


def test_everything_is_told_at_once(values, world, tmp_path):
    people = shutil.copytree(world / "people", tmp_path / "people")
    (people / "nobody").mkdir()
    (tmp_path / "twice.txt").write_text("a {} in the snow\na man in the snow\n")
    (tmp_path / "no-text.txt").write_bytes(b"\xff\xfe\x00")
    values["subjects"]["folder"] = str(people)
    values["prompts"]["sets"] = ["grid", str(tmp_path / "twice.txt"), str(tmp_path / "no-text.txt"), "girds"]
    values["generation"]["base"] = str(tmp_path / "no-base")
    values["methods"] += [
        {"kind": "encoder", "name": "ours", "path": str(tmp_path / "people")},
        {"kind": "encoder", "name": "gone", "path": str(tmp_path / "gone")},
        {"kind": "teacher", "name": "other", "unet": "./unet", "text_encoder": "package://no.package/x"},
        {"kind": "entry_point", "name": "theirs", "entry_point": "no.module:f"},
        {"kind": "entry_point", "name": "odd", "entry_point": "adaface.evaluation.prompts:Prompt"},
    ]
    measures = values["measures"]
    measures["metrics"] = ["text_alignement", "face_similarity", "composition"]
    measures["faces"]["pack"] = str(tmp_path / "no-pack")
    measures["judges"] += [{"name": "lost", "file": str(tmp_path / "lost.onnx")}]
    measures["clip"] = "./clip"
    measures["scene_classifier"] = None
    measures["image_encoders"] = {
        "own": {"entry_point": "adaface.evaluation.prompts:nothing"},
        "dino": {"model": "dino"},
    }
    lines = found(values)
    expected = [
        "subject nobody:",
        f"prompts {tmp_path / 'twice.txt'}, line 2: the same prompt as",
        f"prompts {tmp_path / 'no-text.txt'}: cannot be read as a text file",
        "prompts girds: there is no such file; the sets that come with the package are live, community, grid",
        "unknown metric 'text_alignement': did you mean text_alignment?",
        "metric composition needs a classifier (measures.scene_classifier)",
        "measures.clip: there is no ./clip here",
        "measures.image_encoders.own: entry point adaface.evaluation.prompts:nothing",
        "measures.image_encoders.dino.model: there is no dino here",
        f"measures.faces: model pack folder {tmp_path / 'no-pack'} does not exist",
        "measures.judges lost: there is no file",
        f"generation.base: there is no {tmp_path / 'no-base'} here",
        f"method ours: {people}: there is no encoder",
        "method gone:",
        "method other: unet: there is no ./unet here",
        "method other: text_encoder: package://no.package/x: there is no Python package",
        "method theirs: entry_point: entry point no.module:f",
        "method odd: entry_point: adaface.evaluation.prompts:Prompt does not take these settings: missing a required",
    ]
    for start in expected:
        assert sum(line.startswith(start) for line in lines) == 1, (start, lines)
    assert len(lines) == len(expected), lines


def test_files_that_are_no_pictures(values, world, tmp_path):
    people = shutil.copytree(world / "people", tmp_path / "people")
    (people / "person-00" / "000.jpg").write_text("<html>not found</html>")
    (people / "person-01" / "x.png").write_bytes(b"")
    values["subjects"]["folder"] = str(people)
    first, second = found(values)
    assert first == f"subject person-00: {people}/person-00/000.jpg is not a picture; take it out of the folder"
    assert second.startswith(f"subject person-01: {people}/person-01/x.png is not a picture")


def test_metrics_that_were_asked_for_and_cannot_be(values):
    values["measures"]["metrics"] = ["copy_paste", "base_disturbance", "identity_gap"]
    values["subjects"] |= {"given": None, "names": ["person-00"]}
    del values["methods"][0]
    assert found(values) == [
        "metric base_disturbance needs a method of kind class_word to compare with",
        "metric copy_paste needs photos that the methods are not shown (subjects.given)",
    ]
    # what nobody asked for is left out in silence
    values["measures"]["metrics"] = None
    assert found(values) == []


def test_one_subject_has_no_other_people_to_compare_with(values):
    values["subjects"]["names"] = ["person-00"]
    values["measures"]["metrics"] = ["identity_gap"]
    assert found(values) == [
        "metric identity_gap compares with other people, and there is only one subject; add another"
    ]


def test_an_encoder_of_other_embeddings_and_another_base(values, world):
    values["methods"].append({"kind": "encoder", "name": "ours", "path": str(world / "encoders")})
    ids, width = found(values)
    assert ids.startswith(f"method ours: the encoder reads ID embeddings of {ID_DIM} values, and the first recogniser")
    assert "gives 192" in ids
    assert width.startswith("method ours: the encoder makes vectors of 32 values") and "reads 128" in width


def test_a_method_that_wants_the_protocols_settings(values):
    values["methods"][2]["entry_point"] = "tests.adaface.evaluation.test_preflight:painter"
    values["methods"][2]["settings"] = {"side": 8}
    assert found(values) == []
    values["methods"][2]["settings"] = {"sides": 8}
    (line,) = found(values)
    assert line.startswith("method own: entry_point:") and "missing a required argument: 'side'" in line
    # the classifier is no method: nothing but its settings is given to it
    values["methods"][2]["settings"] = {"side": 8}
    values["measures"]["scene_classifier"] = {"entry_point": "tests.adaface.evaluation.test_preflight:classifier"}
    (line,) = found(values)
    assert line.startswith("measures.scene_classifier:") and "missing a required argument: 'generation'" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:\n", "SyntaxError"),
        ("from fractions import nothing\n", "ImportError"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_method_whose_module_cannot_be_imported(values, tmp_path, monkeypatch, text, said):
    name = f"broken_by_{said.lower()}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    values["methods"][2]["entry_point"] = f"{name}:f"
    (line,) = found(values)
    assert line.startswith(f"method own: entry_point: entry point {name}:f: {name} cannot be imported: {said}: ")


def test_a_base_without_its_tokenizer(values, tmp_path):
    base = shutil.copytree(model_path(SD), tmp_path / "sd", ignore=shutil.ignore_patterns("*.safetensors"))
    values["generation"]["base"] = str(base)
    assert found(values) == []
    (base / "tokenizer" / "tokenizer.json").unlink()
    assert found(values) == [
        f"generation.base: {base / 'tokenizer'} has no whole tokenizer (tokenizer.json, or vocab.json and merges.txt); "
        "download the whole model"
    ]


def test_a_judge_that_is_the_first_recogniser(values, world):
    values["measures"]["judges"][0]["file"] = str(world / "pack" / "rec_tiny.onnx")
    (line,) = found(values)
    assert "is the same network as pack; a judge must be another" in line


def test_a_mean_embedding_of_another_recogniser(values, world, tmp_path):
    people = shutil.copytree(world / "people", tmp_path / "people")
    values["subjects"] |= {"folder": str(people), "mean_embedding": True}
    np.save(people / "person-00" / "mean_emb.npy", np.ones(192, np.float32))
    np.save(people / "person-01" / "mean_emb.npy", np.ones(512, np.float32))
    (line,) = found(values)
    assert (
        line.startswith("subject person-01:") and "has 512 values, the recogniser of measures.faces gives 192" in line
    )


def test_prompts_too_long_for_the_window(values, world, tmp_path):
    """77 tokens: BOS, EOS, and 16 for a subject where an encoder draws."""
    file = tmp_path / "long.txt"
    file.write_text("a photo of a {} " + "in the snow " * 20 + "\na photo of a {} " + "in the snow " * 24 + "\n")
    values["prompts"]["sets"] = [str(file)]
    (line,) = found(values)
    assert "3 tokens too long with 'young man'" in line  # nobody said whether it is one
    values["methods"].append({"kind": "encoder", "name": "ours", "path": "owner/of-the-hub"})
    lines = found(values)
    assert [("vectors" in line, "'young" in line) for line in lines] == [(False, True), (True, False), (True, False)]


def test_a_base_without_a_tokenizer_here_is_not_measured(values, tmp_path):
    file = tmp_path / "long.txt"
    file.write_text("a {} " + "in the snow " * 90)
    values["prompts"]["sets"] = [str(file)]
    (tmp_path / "model.safetensors").write_bytes(b"x")
    for base in (str(tmp_path / "model.safetensors"), "owner/not-downloaded"):
        values["generation"]["base"] = base
        assert found(values) == []


def test_shipped_files_that_are_not_whole(values):
    values["generation"]["base"] = "package://adaface.miniature/weights/ds"
    (line,) = found(values)
    assert line.startswith("generation.base: there is no package://adaface.miniature/weights/ds here")
    assert model_path(SD).is_dir()


def test_no_network_is_loaded(values, world):
    code = (
        "import sys, json\n"
        "from adaface.evaluation.config import EvaluationConfig\n"
        "from adaface.evaluation.preflight import problems\n"
        "config = EvaluationConfig.model_validate(json.loads(sys.stdin.read()))\n"
        "assert problems(config) == []\n"
        "loaded = {'insightface', 'ray', 'prefect'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    values["measures"] |= {"image_encoders": {}, "scene_classifier": None}
    text = EvaluationConfig.model_validate(values).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, cwd=PROJECT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
