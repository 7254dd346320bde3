"""Progress that people and flows can follow: a log line with rate and ETA, and `progress.json` in the output
folder."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from data_pipeline.storage import Storage

log = logging.getLogger(__name__)
PROGRESS = "progress.json"
_FILE_EVERY_S = 2.0
_LINE_EVERY_S = 10.0


class Progress:
    """Counts what a phase has done. Call `start`, then `advance`; `finish` or `fail` ends the whole job."""

    def __init__(self, out: Storage):
        self._out = out
        self._written = self._logged = 0.0
        self.phase, self.unit, self.done, self.total = "starting", "images", 0, 0
        self._before = 0
        self._began = time.monotonic()

    def start(self, phase: str, total: int, unit: str = "images", message: str = "", done: int = 0) -> None:
        """Begin a phase of which `done` units were done before, by an earlier run."""
        self.phase, self.unit, self.done, self.total, self._before = phase, unit, done, total, done
        self._began = self._logged = time.monotonic()
        log.info("%s: %s", phase, message or f"{total:,} {unit}")
        self._write(message)

    def advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self._written >= _FILE_EVERY_S:
            self._write()
        if now - self._logged >= _LINE_EVERY_S:
            self._logged = now
            log.info("%s", self.line())

    def finish(self, message: str) -> None:
        self.phase = "done"
        self._write(message)

    def fail(self, message: str) -> None:
        self.phase = "failed"
        self._write(message)

    def rate(self) -> float | None:
        """Units per second since the phase began; None before the first."""
        seconds = time.monotonic() - self._began
        made = self.done - self._before
        return made / seconds if made and seconds > 0 else None

    def eta_s(self) -> float | None:
        rate = self.rate()
        return (self.total - self.done) / rate if rate else None

    def line(self) -> str:
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        rate, eta = self.rate(), self.eta_s()
        speed = f", {rate:.1f} {self.unit}/s" if rate else ""
        left = f", {duration(eta)} left" if eta is not None else ""
        return f"{self.phase}: {self.done:,} of {self.total:,} {self.unit}{share}{speed}{left}"

    def _write(self, message: str = "") -> None:
        self._written = time.monotonic()
        self._out.write_json(
            PROGRESS,
            {
                "phase": self.phase,
                "done": self.done,
                "total": self.total,
                "unit": self.unit,
                "rate": self.rate(),
                "eta_s": self.eta_s(),
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
                "message": message,
            },
        )


def duration(seconds: float) -> str:
    """1h 02m, 3m 20s, 12s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"
