"""docs/from-the-original.md maps every option of the published command lines to something that exists here."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from adaface.distill.stage import original_stage
from flows.pipeline_steps import load_pipeline
from ray_jobs.config import DatasetConfig
from ray_jobs.config_file import load
from ray_jobs.distill_config import DistillConfig
from ray_jobs.evaluate_config import EvaluateConfig

PROJECT = Path(__file__).resolve().parents[1]
PAGE = (PROJECT / "docs/from-the-original.md").read_text(encoding="utf-8")

# of the original's README: surgery, both stages and rounds, evaluation, prompts
OPTIONS = """
    --base_ckpt --text_ckpt --out_ckpt --vae_ckpt --base -t --base_model_path --gpus --data_roots
    --mix_subj_data_roots -n --no-test --max_steps --subject_string --background_string --num_vectors_per_bg_token
    --num_vectors_per_subj_token --clip_last_layers_skip_weights --randomize_clip_skip_weights --warmup_steps
    --d_coef --bs --do_clip_teacher_filtering --arc2face_distill_iter_prob --composition_regs_iter_gap
    --save_meta_subj2person_type_cache_path --load_meta_subj2person_type_cache_path --embedding_manager_ckpt
    --extend_prompt2token_proj_attention_multiplier --max_num_denoising_steps --config --ckpt --bb_type --ddim_eta
    --ddim_steps --gpu --scale --broad_class --n_repeat --outdir --from_file --ref_images --use_pre_neg_prompt
    --compare_with --calc_face_sim --embedding_paths --method --subjfile --out_dir_tmpl --range
    --gen_prompt_set_only
"""


def rows() -> list[list[str]]:
    """Cells of all tables but their heads."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "original" and not set(row[0]) <= set("-")]


def test_every_option_of_the_published_commands_has_a_row():
    said = " ".join(row[0] for row in rows())
    mapped = set(re.findall(r"`(-{1,2}[\w-]+)", said))
    assert set(OPTIONS.split()) - mapped == set()


def test_every_option_in_a_command_of_the_page_has_one_too():
    commands = [line for line in PAGE.splitlines() if line.startswith("    ")]
    text = re.sub(r"\\\n", " ", "\n".join(commands))
    theirs = [line for line in text.splitlines() if "python3 " in line or line.strip().startswith("...")]
    assert len(theirs) == 7
    found = {option for line in theirs for option in re.findall(r"(?<!\S)(-{1,2}[a-z][\w-]*)", line)}
    assert found - set(OPTIONS.split()) == set()


def keys() -> list[str]:
    """Of our configurations, in the cells that are ours: `stage1.stage.plan.steps: 60000`."""
    ours = " ".join(cell for row in rows() for cell in row[1:])
    return sorted(set(re.findall(r"`([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+)(?::[^`]*)?`", ours)))


def test_the_page_has_keys():
    assert len(keys()) > 30


@pytest.mark.parametrize("key", keys())
def test_a_key_exists(key):
    assert any(has(config, key.split(".")) for config in (DistillConfig, DatasetConfig, EvaluateConfig))


@pytest.mark.parametrize("text", sorted(set(re.findall(r"`(stage[12]\.[\w.]+: [^`]+)`", PAGE))))
def test_a_value_that_the_page_names_can_be_set(text):
    key, value = text.split(": ")
    load(DistillConfig, PROJECT / "configs/distill-sd15.yaml", [f"{key}={value}"])


def has(kind: typing.Any, path: list[str]) -> bool:
    if not path:
        return True
    for part in typing.get_args(kind):
        if has(part, path):
            return True
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(path[0])
        return field is not None and has(field.annotation, path[1:])
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return path[0] in hints and has(hints[path[0]], path[1:])
    return False


def test_the_full_recipe_is_the_originals_stages():
    config = load(DistillConfig, PROJECT / "configs/distill-sd15.yaml")
    for number, run in ((1, config.stage1), (2, config.stage2)):
        original = original_stage(number)
        shares = original.plan.rollout_shares
        given = run.stage.plan.rollout_shares
        assert [share / sum(given) for share in given] == pytest.approx([share / sum(shares) for share in shares])
        plan = dataclasses.replace(run.stage.plan, rollout_shares=shares)
        assert dataclasses.replace(run.stage, plan=plan) == original
    assert config.machines.workers == 2 and config.machines.gpu and config.samples == 4


def test_the_rounds_follow_one_another():
    section = load_pipeline(PROJECT / "configs/sd15.yaml", []).pipeline
    assert section is not None
    assert [(each.name, each.stage) for each in section.rounds] == [("stage1", 1), ("stage1-round2", 1), ("stage2", 2)]
