"""What Prefect shows of a run of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_pipeline.storage import Storage
from flows.run_summary import last_panel, last_rows, run_markdown

RUN = {
    "encoder": "/runs/stage1/encoder",
    "steps": 1200,
    "loss": 0.0123456,
    "stage": 1,
    "config_hash": "0123456789abcdef",
}


def row(step: int, **more: Any) -> dict[str, Any]:
    speed = {"samples_per_s": 10.0 * step, "computed_per_s": 5.0 * step, "wait_share": 0.01}
    speed |= {"tflops": 0.0421, "memory_gb": 1.24}
    return {"step": step, "loss": 0.1, "skipped": False, **speed, **more}


def write(out: Storage, name: str, *rows: dict[str, Any]) -> None:
    out.write_bytes(f"log/{name}.jsonl", "".join(json.dumps(each) + "\n" for each in rows).encode())


def test_the_table_has_the_medians_of_the_last_steps_of_the_first_worker(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    write(out, "steps-00000500-rank0", row(1))
    write(out, "steps-00001000-rank0", row(2), row(3, skipped=True), row(9))
    write(out, "steps-00001000-rank1", row(100))
    assert [each["step"] for each in last_rows(out)] == [2, 3, 9]
    table = run_markdown(RUN, out)
    for line in ("| steps | 1,200 |", "| loss of the last step | 0.01235 |", "| samples per second | 30.0 |",
                 "| of which computed | 15.0 |", "| waiting for data | 1.0% |",
                 "| steps skipped, of the last | 1 of 3 |"):  # fmt: skip
        assert line in table, table
    assert "MFU" not in table  # of a machine whose peak is not known
    assert "Encoder: `/runs/stage1/encoder`" in table


def test_a_run_that_left_no_rows_and_pictures(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    assert last_panel(out) is None
    assert "| stage | 1 |" in run_markdown(RUN, out) and "samples per second" not in run_markdown(RUN, out)


def test_the_last_panel_is_linked(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    for step in (500, 1000, 1500):
        out.write_bytes(f"panels/step-{step:08d}.png", b"")
    assert last_panel(out) == "panels/step-00001500.png"
