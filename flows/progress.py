"""What a job says about itself in `progress.json`, shown in Prefect as one progress artifact that moves."""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from data_pipeline.storage import Storage

Logger = logging.Logger | logging.LoggerAdapter[Any]
PROGRESS = "progress.json"


class ProgressFollower:
    """Call it again and again; it reads `progress.json` of `output` and brings Prefect up to date.

    What a former run has left in the file is not shown: only what is written after this object was made.

    Args:
        shares: phase -> share of the whole job's time, in order; about right is enough, the description has the truth.
        key: of the artifact: lower case letters, digits and dashes.
    """

    def __init__(self, output: Storage, shares: dict[str, float], key: str, logger: Logger):
        self._output, self._shares, self._key, self._logger = output, shares, key, logger
        self._seen = self._read()
        self._artifact: UUID | None = None
        self._share = 0.0

    def __call__(self) -> None:
        content = self._read()
        if content is None or content == self._seen:
            return
        self._seen = content
        try:
            progress = json.loads(content)
        except ValueError:  # half a file: some object stores allow a glimpse
            return
        self._share = percent(progress, self._shares, self._share)
        try:
            self._show(self._share, describe(progress))
        except (httpx.HTTPError, PrefectException) as error:  # a picture of the work, not the work
            self._logger.warning("progress could not be shown: %s", error)

    def _show(self, share: float, line: str) -> None:
        if self._artifact is None:
            made: Any = create_progress_artifact(share, key=self._key, description=line)
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, share, description=line)

    def _read(self) -> bytes | None:
        try:
            return self._output.read_bytes(PROGRESS) if self._output.exists(PROGRESS) else None
        except OSError as error:  # the store did not answer, or the file was just replaced
            self._logger.warning("progress could not be read: %s", error)
            return None


def percent(progress: dict[str, Any], shares: dict[str, float], before: float) -> float:
    """0..100 over all phases; a phase that has no share (a failed job) leaves it at `before`."""
    phase = progress["phase"]
    if phase == "done":
        return 100.0
    if phase not in shares:
        return before
    phases = list(shares)
    earlier = sum(shares[each] for each in phases[: phases.index(phase)])
    within = progress["done"] / progress["total"] if progress["total"] else 0.0
    return round(100 * (earlier + shares[phase] * min(within, 1.0)) / sum(shares.values()), 1)


def describe(progress: dict[str, Any]) -> str:
    """For example "analyse: 120 of 400 images, 3.1 images/s, 1m 30s left"."""
    if progress["phase"] in ("done", "failed") or not progress["total"]:
        return f"{progress['phase']}: {progress['message']}" if progress["message"] else progress["phase"]
    unit = progress["unit"]
    line = f"{progress['phase']}: {progress['done']:,} of {progress['total']:,} {unit}"
    if progress["rate"]:
        line += f", {progress['rate']:.1f} {unit}/s"
    if progress["eta_s"] is not None:
        seconds = round(progress["eta_s"])
        hours, minutes = f"{seconds // 3600}h " if seconds >= 3600 else "", seconds % 3600 // 60
        line += f", {hours}{minutes}m {seconds % 60:02d}s left"
    return line
