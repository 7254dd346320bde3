"""The history of evaluations: a folder with one small Parquet file per run, so that runs never wait for each other."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from adaface.evaluation.subjects import find_subjects
from data_pipeline.storage import Storage
from ray_jobs.evaluate_config import EvaluateConfig, history_of
from ray_jobs.evaluate_digests import Digests, digest, make_digests

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "finished", "protocol_hash", "method", "method_hash", "column")),
        *((name, pa.float64()) for name in ("mean", "low", "high")),
    ]
)


def protocol_hash(config: EvaluateConfig, digests: Digests) -> str:
    """Of what was asked and with which models it was drawn and measured, without the methods."""
    shared = {role: value for role, value in digests.models.items() if not _of_a_method(config, role)}
    asked = config.protocol()
    asked["subjects"].pop("folder")  # the photos themselves count
    return digest([asked, shared, digests.references])[:16]


def encoder_names(config: EvaluateConfig) -> list[str]:
    """Methods whose loss matters: not the baselines, which are there to compare with."""
    return [method.name for method in config.methods if method.kind in ("encoder", "entry_point")]


def read_history(config: EvaluateConfig) -> list[dict[str, Any]]:
    """All rows of all runs, in the order of their files."""
    folder = Storage(history_of(config))
    names = [name for name in folder.list() if name.endswith(".parquet")]
    return [row for name in names for row in folder.read_table(name).to_pylist()]


def write_history(config: EvaluateConfig, run: str, rows: list[dict[str, Any]]) -> None:
    Storage(history_of(config)).write_table(f"{run}.parquet", pa.Table.from_pylist(rows, schema=SCHEMA))


def known_encoders(config: EvaluateConfig) -> list[str] | None:
    """The names of the encoders if every one of them was evaluated under this protocol before, else None."""
    digests = make_digests(config, find_subjects(config.subjects))
    protocol = protocol_hash(config, digests)
    seen = {(row["method"], row["method_hash"]) for row in read_history(config) if row["protocol_hash"] == protocol}
    names = encoder_names(config)
    return names if all((name, digests.method_files[name]) in seen for name in names) else None


def _of_a_method(config: EvaluateConfig, role: str) -> bool:
    return any(role.startswith(f"{method.name}: ") for method in config.methods)
