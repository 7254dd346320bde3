"""The configuration: defaults of the original, what is refused, what enters the hash."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from adaface.evaluation.config import EvaluationConfig
from adaface.subjects.prompt_states import ORIGINAL_NEGATIVE
from ray_jobs.config_file import ConfigError, load
from ray_jobs.evaluate_config import EvaluateConfig

VALUES: dict[str, Any] = {
    "output": "out",
    "subjects": {"folder": "people"},
    "generation": {"base": "sd"},
    "methods": [
        {"kind": "class_word"},
        {"kind": "teacher", "unet": "t/unet", "text_encoder": "t/text"},
        {"kind": "encoder", "name": "ours", "path": "runs/7"},
        {"kind": "entry_point", "name": "theirs", "entry_point": "package.module:factory", "settings": {"a": 1}},
    ],
    "measures": {"faces": {"pack": "pack"}},
}


def values(**changes: Any) -> dict[str, Any]:
    """VALUES with "section__key" changed."""
    new = copy.deepcopy(VALUES)
    for place, value in changes.items():
        section, _, key = place.partition("__")
        if key:
            new.setdefault(section, {})[key] = value
        else:
            new[section] = value
    return new


def config(**changes: Any) -> EvaluationConfig:
    return EvaluationConfig.model_validate(values(**changes))


def test_the_defaults_are_the_originals():
    made = config()
    generation = made.generation
    assert (generation.images_per_prompt, generation.steps, generation.guidance) == (4, 50, (4.0, 1.0))
    assert generation.negative_prompt == ORIGINAL_NEGATIVE and generation.clip_skip_weights == (1.0, 1.0)
    assert generation.seed == 42 and made.prompts.sets == ["live", "community"]
    assert [method.name for method in made.methods] == ["class-word", "teacher", "ours", "theirs"]
    assert (made.baseline, made.teacher) == ("class-word", "teacher")


def test_null_means_none():
    made = config(generation__negative_prompt=None, generation__clip_skip_weights=None)
    assert made.generation.negative_prompt is None and made.generation.clip_skip_weights is None


def test_a_dump_is_the_same_configuration():
    made = config(measures__image_encoders={"dino": {"model": "x/y"}, "own": {"entry_point": "a:b"}})
    assert EvaluationConfig.model_validate(made.model_dump(mode="json")) == made
    assert EvaluationConfig.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation__guidance": [1, 4]}, "cannot go from 1 to 4: start above 1"),
        ({"generation__clip_skip_weights": [0, 0]}, "must not all be 0"),
        ({"generation__width": 100}, "multiple of 8"),
        ({"generation__device": "gpu"}, "pattern"),
        ({"generation__steps": 0}, "greater than or equal to 1"),
        ({"methods": []}, "at least 1 item"),
        ({"methods": [{"kind": "class_word"}, {"kind": "class_word", "name": "Class-Word"}]}, "called class-word"),
        ({"methods": [{"kind": "encoder", "name": "a/b", "path": "x"}]}, "pattern"),
        ({"methods": [{"kind": "encoder", "name": "a", "path": []}]}, "name a folder"),
        ({"methods": [{"kind": "encoder", "name": "a", "path": ["runs", "s3://b/runs"]}]}, "copy of s3://b/runs does"),
        ({"methods": [{"kind": "entry_point", "name": "x", "entry_point": "module"}]}, "pattern"),
        ({"methods": [{"kind": "teacher", "unet": "u", "text_encoder": "t", "guidance": [0, 4]}]}, "start above 1"),
        ({"prompts__placement": "face portrait"}, "must hold the subject as {} once"),
        ({"prompts__sets": ["live", "live"]}, "named twice: live"),
        ({"subjects__names": ["anna", "anna"]}, "named twice: anna"),
        ({"subjects__given": 0}, "greater than or equal to 1"),
        ({"measures__metrics": ["diversity", "diversity"]}, "named twice: diversity"),
        ({"measures__judges": [{"name": "pack", "file": "j.onnx"}]}, "several recognisers are called pack"),
        ({"measures__judges": [{"name": "Ad a", "file": "j.onnx"}]}, "pattern"),
        ({"measures__image_encoders": {"clip": {"model": "x"}}}, "cannot have one called clip"),
        (
            {"measures__image_encoders": {"seed": {"model": "x"}, "faces": {"model": "y"}}},
            "one called seed, faces: the",
        ),
        ({"measures__faces": {"pack": "p", "parser": {"kind": "bisenet", "file": "f"}}}, "`faces.parser` is not used"),
        ({"subject": {}}, "Extra inputs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_equal_results_have_equal_hashes():
    made = config()
    for change in (
        {"output": "elsewhere"},
        {"generation__batch": 1},
        {"generation__device": "cpu"},
        {"measures__batch": 1},
        {"measures__threads": 4},
        {"measures__faces": {"pack": "pack", "batch_size": 1, "threads": 3, "device": "cpu"}},
    ):
        assert config(**change).what_it_makes() == made.what_it_makes(), change
        assert config(**change).protocol() == made.protocol(), change
    for change in ({"generation__seed": 1}, {"generation__steps": 9}, {"prompts__limit": 3}, {"subjects__given": 1}):
        assert config(**change).what_it_makes() != made.what_it_makes(), change
        assert config(**change).protocol() != made.protocol(), change


def test_other_methods_are_the_same_protocol():
    fewer = config(methods=VALUES["methods"][:1])
    assert fewer.protocol() == config().protocol() and fewer.what_it_makes() != config().what_it_makes()


def test_a_file_with_mistakes_is_told_with_lines(tmp_path):
    wrong = values(generation__step=20, measures__image_encoders={"dino": {"modle": "x"}, "own": {"entry_point": 3}})
    wrong["methods"][2]["kind"] = "encodr"
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(wrong, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load(EvaluateConfig, file)
    text = "\n".join(raised.value.problems)
    assert "unknown key `generation.step`; did you mean `generation.steps`?" in text
    assert "'encodr'; it must be one of 'class_word', 'teacher', 'encoder', 'entry_point'" in text
    assert "measures.image_encoders.dino" in text and "measures.image_encoders.own" in text
    assert all(f"{file}:" in problem for problem in raised.value.problems)


@pytest.mark.parametrize("name", ["evaluate.yaml", "evaluate-miniature.yaml"])
def test_the_shipped_files_load(project: Path, name: str):
    made = load(EvaluateConfig, project / "configs" / name)
    assert made.baseline and made.teacher
