"""What a run has said before it goes on, from what is stored with its checkpoints: for trackers that lost some of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from data_pipeline.storage import Storage
from ray_jobs.distill_config import LogConfig

_ROWS = re.compile(r"log/steps-\d+-rank0\.jsonl")
_PANEL = re.compile(r"panels/step-(\d+)\.png")


def rows_before(out: Storage, log: LogConfig, begins: int) -> Iterator[dict[str, Any]]:
    """Rows of the steps before `begins` that trackers are told of, in their order."""
    rows: list[dict[str, Any]] = []
    for name in out.list("log"):
        if _ROWS.fullmatch(name):
            rows += (json.loads(line) for line in out.read_bytes(name).decode().splitlines())
    told = (row for row in rows if row["step"] < begins and row["step"] % log.log_every == 0)
    yield from sorted(told, key=lambda row: row["step"])


def panels_before(out: Storage, begins: int) -> Iterator[tuple[int, str]]:
    """Steps before `begins` and the files of their pictures, in their order."""
    found = ((match, name) for name in out.list("panels") if (match := _PANEL.fullmatch(name)))
    yield from sorted((int(match[1]), name) for match, name in found if int(match[1]) < begins)
