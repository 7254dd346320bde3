"""A finished run of training as Prefect shows it: what was trained, how fast, and the last pictures."""

from __future__ import annotations

import json
import statistics
from typing import Any

from data_pipeline.storage import Storage

# Columns of the rows that a run logs, as they are called for people.
_SPEED = {
    "samples_per_s": ("samples per second", "{:.1f}"),
    "computed_per_s": ("of which computed", "{:.1f}"),
    "wait_share": ("waiting for data", "{:.1%}"),
    "tflops": ("TFLOP/s of a worker", "{:.3g}"),
    "mfu": ("MFU of a worker", "{:.1%}"),
    "memory_gb": ("peak memory of a worker, GB", "{:.1f}"),
}


def run_markdown(run: dict[str, Any], output: Storage) -> str:
    """A table of the run; `run` is the content of its run.json. Speeds are medians over the steps since the last
    checkpoint but one."""
    rows = last_rows(output)
    table = [
        ("stage", f"{run['stage']}"),
        ("steps", f"{run['steps']:,}"),
        ("loss of the last step", f"{run['loss']:.5f}"),
    ]
    for column, (name, form) in _SPEED.items():
        values = [row[column] for row in rows if column in row]
        if values:
            table.append((name, form.format(statistics.median(values))))
    skipped = sum(bool(row["skipped"]) for row in rows)
    if skipped:
        table.append(("steps skipped, of the last", f"{skipped:,} of {len(rows):,}"))
    lines = [f"# {output.uri}", "", "| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in table)]
    return "\n".join([*lines, "", f"Encoder: `{run['encoder']}`", "", f"Configuration `{run['config_hash']}`"])


def last_rows(output: Storage) -> list[dict[str, Any]]:
    """The rows that rank 0 has logged up to the last checkpoint; empty where there are none."""
    files = [name for name in output.list("log") if name.endswith("-rank0.jsonl")]
    if not files:
        return []
    text = output.read_bytes(files[-1]).decode()
    return [json.loads(line) for line in text.splitlines()]


def last_panel(output: Storage) -> str | None:
    """The name of the last picture of the run's fixed people; None where it has drawn none."""
    pictures = [name for name in output.list("panels") if name.endswith(".png")]
    return pictures[-1] if pictures else None
