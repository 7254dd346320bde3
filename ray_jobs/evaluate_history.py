"""The history of evaluations: a folder with one small Parquet file per run, so that runs never wait for each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from adaface.evaluation.prompts import Prompt, load_prompts
from adaface.evaluation.subjects import Subject, find_subjects
from data_pipeline.storage import Storage
from ray_jobs.evaluate_config import EvaluateConfig, history_of
from ray_jobs.evaluate_digests import Digests, digest, make_digests

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "finished", "protocol_hash", "method", "method_hash", "column")),
        *((name, pa.float64()) for name in ("mean", "low", "high")),
        ("level", pa.string()),  # null: no rule looked at it, or the row is older than this column
    ]
)


def protocol_hash(
    config: EvaluateConfig, digests: Digests, subjects: Iterable[Subject], prompts: Iterable[Prompt]
) -> str:
    """Of what was asked and with which models it was drawn and measured, without the methods.

    Args:
        subjects: before or after `check_faces`; a class word that the face pack says follows from photos and pack.
        prompts: of `load_prompts`.
    """
    shared = {role: value for role, value in digests.models.items() if not _of_a_method(config, role)}
    asked = [(prompt.id, prompt.category, prompt.text, dict(prompt.expects)) for prompt in prompts]
    words = {each.name: each.class_word for each in subjects if each.type_from not in ("nobody", "face pack")}
    return digest([config.protocol(), asked, words, shared, digests.references])[:16]


def encoder_names(config: EvaluateConfig) -> list[str]:
    """Methods whose loss matters: not the baselines, which are there to compare with."""
    return [method.name for method in config.methods if method.kind in ("encoder", "entry_point")]


def read_history(config: EvaluateConfig) -> list[dict[str, Any]]:
    """All rows of all runs, in the order of their files; `level` is None in files from before it was kept."""
    folder = Storage(history_of(config))
    names = [name for name in folder.list() if name.endswith(".parquet")]
    return [{"level": None, **row} for name in names for row in folder.read_table(name).to_pylist()]


def write_history(config: EvaluateConfig, run: str, rows: list[dict[str, Any]]) -> None:
    Storage(history_of(config)).write_table(f"{run}.parquet", pa.Table.from_pylist(rows, schema=SCHEMA))


def inputs_hash(config: EvaluateConfig) -> str | None:
    """Of everything that an evaluation reads; None where some of it cannot be read from here."""
    try:
        return digest([*what_is_run(config)])
    except (ValueError, OSError):
        return None


def what_is_run(config: EvaluateConfig) -> tuple[str, dict[str, str]]:
    """The protocol's hash, and those of the methods' files, without looking at a photo."""
    subjects = find_subjects(config.subjects)
    prompts = load_prompts(config.prompts.sets, config.prompts.limit, config.prompts.placement)
    digests = make_digests(config, subjects)
    return protocol_hash(config, digests, subjects, prompts), digests.method_files


def _of_a_method(config: EvaluateConfig, role: str) -> bool:
    return any(role.startswith(f"{method.name}: ") for method in config.methods)
