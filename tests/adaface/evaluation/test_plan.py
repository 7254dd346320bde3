"""The plan: seeds that nothing but the picture decides, every picture once, stable names."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from adaface.evaluation.config import EvaluationConfig
from adaface.evaluation.plan import Picture, picture_seed, plan_parts
from adaface.evaluation.prompts import Prompt
from adaface.evaluation.subjects import Subject

SUBJECTS = [Subject(name, (Path(f"{name}/1.jpg"),), (0,), "woman", "woman") for name in ("anna", "Bo B.")]
PROMPTS = [Prompt(f"prompt-{number}", "place", f"a {{}} in place {number}") for number in range(5)]


def config(**generation: object) -> EvaluationConfig:
    return EvaluationConfig.model_validate(
        {
            "output": "out",
            "subjects": {"folder": "people"},
            "generation": {"base": "sd", "images_per_prompt": 3, "batch": 4, **generation},
            "methods": [{"kind": "class_word"}, {"kind": "encoder", "name": "ours", "path": "x"}],
            "measures": {"faces": {"pack": "pack"}},
        }
    )


def pictures(**generation: object) -> list[Picture]:
    return [picture for part in plan_parts(config(**generation), SUBJECTS, PROMPTS) for picture in part.pictures]


def test_every_picture_is_planned_once():
    planned = pictures()
    assert len(planned) == len(set(planned)) == len({picture.file for picture in planned}) == 2 * 2 * 5 * 3


def test_a_part_has_one_method_and_subject_and_fits_a_batch():
    parts = plan_parts(config(), SUBJECTS, PROMPTS)
    for part in parts:
        assert 1 <= len(part.pictures) <= 4
        assert {(picture.method, picture.subject) for picture in part.pictures} == {(part.method, part.subject)}
    assert len({part.name for part in parts}) == len(parts) == 2 * 2 * 4  # 15 pictures in batches of 4
    assert all("/" not in part.name for part in parts)


def test_parts_of_one_method_stand_together():
    methods = [part.method for part in plan_parts(config(), SUBJECTS, PROMPTS)]
    assert methods == sorted(methods, key=["class-word", "ours"].index)


def test_a_seed_is_the_hash_of_subject_prompt_and_number():
    digest = hashlib.sha256(b"42/anna/prompt-1/2").digest()
    assert picture_seed(42, "anna", "prompt-1", 2) == int.from_bytes(digest[:8], "big") % 2**63
    assert picture_seed(42, "Åsa", "prompt-1", 2) != picture_seed(42, "Asa", "prompt-1", 2)
    seeds = [picture_seed(42, "anna", f"prompt-{number}", k) for number in range(500) for k in range(4)]
    assert len(set(seeds)) == 2000 and all(0 <= seed < 2**63 for seed in seeds)


def test_all_methods_have_the_same_seeds():
    by_method: dict[str, dict[tuple[str, str, int], int]] = {}
    for picture in pictures():
        by_method.setdefault(picture.method, {})[picture.subject, picture.prompt_id, picture.k] = picture.seed
    assert by_method["class-word"] == by_method["ours"]


@pytest.mark.parametrize("change", [{"batch": 1}, {"batch": 64}, {"steps": 7}], ids=str)
def test_batch_and_steps_change_no_seed(change):
    assert pictures(**change) == pictures()


def test_another_seed_changes_all_and_fewer_pictures_change_none():
    before = {picture.file: picture.seed for picture in pictures()}
    other = {picture.file: picture.seed for picture in pictures(seed=43)}
    assert before.keys() == other.keys() and not set(before.values()) & set(other.values())
    fewer = {picture.file: picture.seed for picture in pictures(images_per_prompt=1)}
    assert len(fewer) == 20 and fewer.items() <= before.items()


def test_seeds_do_not_depend_on_the_order_of_prompts():
    shuffled = random.Random(1).sample(PROMPTS, len(PROMPTS))
    planned = {p for part in plan_parts(config(), SUBJECTS[::-1], shuffled) for p in part.pictures}
    assert planned == set(pictures())


def test_the_name_of_a_part_tells_its_pictures():
    whole = {part.name: part.pictures for part in plan_parts(config(), SUBJECTS, PROMPTS)}
    fewer = {part.name: part.pictures for part in plan_parts(config(), SUBJECTS, PROMPTS[:3])}
    again = {part.name: part.pictures for part in plan_parts(config(), SUBJECTS, PROMPTS)}
    assert again == whole
    shared = whole.keys() & fewer.keys()
    assert shared and all(whole[name] == fewer[name] for name in shared)


def test_where_a_picture_lies():
    assert Picture("ours", "anna", "on-the-beach", 2, 7).file == "images/ours/anna/on-the-beach-2.png"
