"""Ray Train's list of a run's checkpoints, made sound again where a crash has damaged it or one of them.

Ray goes on from the last checkpoint in the list, and from nothing else: a list that was cut off while it was written, or
that ends with a checkpoint that was, would end the run for good beside older checkpoints that are whole.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import pyarrow.fs as fs

from adaface.distill.checkpoint import FORMAT, TRAINER
from data_pipeline.storage import Storage
from ray_jobs.same_run import LOG

LIST = "checkpoint_manager_snapshot.json"  # Ray's name for it
_FOLDERS = "checkpoint_"
log = logging.getLogger(__name__)


def mend_list(out: Storage) -> None:
    """Leave a sound list of whole checkpoints, or none, in the folder of a run that begins or goes on.

    What is damaged is named in the log and stays where it is.
    """
    if not out.exists(LIST):
        return
    listed = _listed(out)
    whole = [name for name in (_folders(out) if listed is None else listed) if _is_whole(out, name)]
    if whole == listed:
        return
    damaged = "the list of checkpoints" if listed is None else ", ".join(sorted(set(listed) - set(whole)))
    rest = f"the run goes on from {whole[-1]}" if whole else "no other is whole, the run begins anew"
    log.warning("%s: %s: damaged; %s", out.uri, damaged, rest)
    if whole:
        out.write_json(LIST, _list_of(out, whole))
    else:
        out.delete(LIST)


def _listed(out: Storage) -> list[str] | None:
    """Names in the list, the newest last; None where it cannot be read."""
    try:
        return [str(each["checkpoint_dir_name"]) for each in out.read_json(LIST)["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        return None


def _folders(out: Storage) -> list[str]:
    filesystem, place = out.filesystem()
    entries = filesystem.get_file_info(fs.FileSelector(place, recursive=False))
    folders = [entry.base_name for entry in entries if entry.type == fs.FileType.Directory]
    return sorted(name for name in folders if name.startswith(_FOLDERS))


def _is_whole(out: Storage, name: str) -> bool:
    """As `adaface.distill.checkpoint.read_step` sees it, but in an object store, too, and with its rows in the run's log."""
    try:
        state = out.read_json(f"{name}/{TRAINER}/state.json")
        sizes: dict[str, int] = state["files"]
        sound = state["format"] == FORMAT and out.exists(_rows(int(state["step"])))
        return sound and all(out.size(f"{name}/{file}") == size for file, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _list_of(out: Storage, names: list[str]) -> dict[str, Any]:
    import ray

    results = [{"version": 0, "checkpoint_dir_name": name, "metrics": _metrics(out, name)} for name in names]
    return {
        "ray_version": ray.__version__,
        "checkpoint_results": results,
        "checkpoint_report_indices": list(range(len(names))),
        "latest_checkpoint_result": results[-1],
        "pending_training_results": [],
        "pending_validation_specs": [],
        "current_report_index": len(names),
        "validated_checkpoint_dir_names": [],
        "timed_out_validation_checkpoint_dir_names": [],
        "failed_validation_checkpoint_dir_names": [],
    }


def _metrics(out: Storage, name: str) -> dict[str, Any]:
    """What the worker reported with this checkpoint, which only the list had: the step, and its loss from the run's log."""
    step = int(out.read_json(f"{name}/{TRAINER}/state.json")["step"])
    rows = out.read_bytes(_rows(step)).decode().splitlines()
    return {"step": step, "loss": json.loads(rows[-1])["loss"]}


def _rows(step: int) -> str:
    return f"{LOG}/steps-{step:08d}-rank0.jsonl"
