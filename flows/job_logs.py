"""The output of a job on a cluster, line by line, each line once."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Queue
from types import TracebackType
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Lines handed on per job, so that a second follower in this process (a retried task) goes on where the first ended.
_delivered: dict[str, int] = {}


def text_of(line: str) -> str:
    """A line as a terminal would leave it: without colours, and only the last state of a progress bar."""
    return _COLOURS.sub("", line.rstrip("\r\n").rsplit("\r", 1)[-1])


def last_lines(text: str, count: int = 20) -> str:
    """The last lines that are not empty."""
    return "\n".join([line for line in map(text_of, text.split("\n")) if line.strip()][-count:])


class JobLog:
    """Follows a job's log in a thread, over a web socket that is opened again when it breaks.

    The cluster always sends a log from its beginning; lines that were handed on before are left out by their number.

    Args:
        from_now: for a job that another process started: what it has printed so far was handed on there, so here only
            a note with the number of these lines is given.
    """

    RECONNECT_SECONDS = 2.0

    def __init__(self, client: JobSubmissionClient, submission_id: str, from_now: bool = False):
        self._client = client
        self._id = submission_id
        self._note: str | None = None
        if from_now and submission_id not in _delivered:
            _delivered[submission_id] = self.text().count("\n")
            self._note = f"({_delivered[submission_id]} earlier lines: ray job logs {submission_id})"
        self._queued = _delivered.setdefault(submission_id, 0)
        self._lines: Queue[tuple[int, str]] = Queue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._tail()), daemon=True)

    def __enter__(self) -> JobLog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def text(self) -> str:
        """The whole log so far."""
        return self._client.get_job_logs(self._id)

    def deliver(self, on_log: Callable[[str], None], seconds: float) -> None:
        """Hand on what arrives in the next `seconds`."""
        if self._note:
            on_log(self._note)
            self._note = None
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                number, line = self._lines.get(timeout=left)
            except Empty:
                return
            self._hand_on(number, line, on_log)

    def deliver_rest(self, text: str, on_log: Callable[[str], None]) -> None:
        """Hand on every line of the complete log `text` that has not been handed on yet."""
        for number, line in enumerate(text.removesuffix("\n").split("\n") if text else []):
            self._hand_on(number, line, on_log)

    def _hand_on(self, number: int, line: str, on_log: Callable[[str], None]) -> None:
        if number >= _delivered[self._id]:
            on_log(text_of(line))
            _delivered[self._id] = number + 1

    async def _tail(self) -> None:
        while not self._ended.is_set():
            with suppress(aiohttp.ClientError, OSError, RuntimeError):  # the socket broke, or the job has not begun
                await self._tail_once()
            await asyncio.sleep(self.RECONNECT_SECONDS)

    async def _tail_once(self) -> None:
        number, unfinished = 0, ""
        async for chunk in self._client.tail_job_logs(self._id):
            *whole, unfinished = (unfinished + chunk).split("\n")
            for line in whole:
                if number >= self._queued:
                    self._lines.put((number, line))
                    self._queued = number + 1
                number += 1
            if self._ended.is_set():
                return
