"""Runs beside one another: whether an encoder lost identity or text alignment since the last run of the same protocol.

A run is compared with the last one that asked the same questions and did not fail: a loss that was found once is found
again until it is made good. A mean that fell by more than its interval, below the
low end of what the last run found, fails; one that fell by more than half of that warns. Small losses add up, so
one that fell below the low end of the best run so far warns as well. Intervals are over subjects, and two runs of a
protocol have the same subjects, prompts and seeds: such a fall is no chance of who was drawn. What was evaluated before is
compared with others only: a run that failed and is started again must not pass for being as bad as itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

from adaface.evaluation.summary import GAP, Summary

Level = Literal["fail", "warn", "ok"]
TEXT = "clip_text"
WARN_SHARE = 0.5  # of the way down to the low end
_LEAST = 1e-6  # of an interval, so that rounding is no fall where all subjects have one value

# run, finished, protocol_hash, method, method_hash, column, mean, low, high, and "level" of what was found then, which is
# None where no rule looked at the column, and in histories from before it was kept
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """What the rules say of one column of one method; "" where it is about the run."""

    level: Level
    column: str
    text: str
    method: str = ""

    @property
    def line(self) -> str:
        """What it is about, and what is said of it."""
        about = " ".join(part for part in (self.method, self.column) if part)
        return f"{about}: {self.text}" if about else self.text


def history_rows(
    summary: Summary,
    *,
    run: str,
    finished: str,
    protocol_hash: str,
    method_hashes: Mapping[str, str],
    findings: Iterable[Finding] = (),
) -> list[dict[str, Any]]:
    """What a run leaves for later ones: a row per method and column, the shares of the teacher included.

    Args:
        run: its name.
        finished: ISO time in UTC; later runs have later ones as texts.
        protocol_hash: of what was asked and how it was measured.
        method_hashes: of what drew, by method.
        findings: of `compare`, whose levels are kept.
    """
    levels = {(finding.method, finding.column): finding.level for finding in findings}
    return [
        {
            "run": run,
            "finished": finished,
            "protocol_hash": protocol_hash,
            "method": method,
            "method_hash": method_hashes[method],
            "column": column,
            **{end: cell[end] for end in ("mean", "low", "high")},
            "level": levels.get((method, column)),
        }
        for method in summary.methods
        for column, cell in (summary.overall[method] | summary.derived.get(method, {})).items()
    ]


def other_runs(rows: Iterable[Row], *, protocol_hash: str, method_hashes: Mapping[str, str]) -> list[Row]:
    """The rows of the runs that found anything else: this one, done before, would be shown twice."""
    rows = [*rows]
    others = {row["run"] for row in rows if not _is_own(row, protocol_hash, method_hashes)}
    return [row for row in rows if row["run"] in others]


def recorded_failures(
    rows: Iterable[Row], *, protocol_hash: str, methods: Sequence[str], method_hashes: Mapping[str, str]
) -> list[Finding]:
    """What the last run of each encoder failed with, if it did; arguments as of `compare`."""
    own = [row for row in rows if row["method"] in methods and _is_own(row, protocol_hash, method_hashes)]
    last: dict[str, Row] = {}
    for row in sorted(own, key=_when):
        last[row["method"]] = row
    return [
        Finding("fail", row["column"], f"{_shown(row)} in {row['run']}, which failed", row["method"])
        for row in map(_without_nan, own)
        if row.get("level") == "fail" and _when(row) == _when(last[row["method"]])
    ]


def compare(
    summary: Summary,
    earlier: Iterable[Row],
    *,
    protocol_hash: str,
    methods: Sequence[str],
    method_hashes: Mapping[str, str],
) -> list[Finding]:
    """The findings of a run, failures first.

    Args:
        earlier: the history, in any order.
        protocol_hash: of this run; rows of other protocols answer other questions and are not compared.
        methods: the encoders, whose loss matters; methods of the history are found by name.
        method_hashes: of what drew in this run, by method; rows of the same are not compared either.

    Returns at least one finding. Raises ValueError for a method that has no scores.
    """
    if unknown := [method for method in methods if method not in summary.methods]:
        raise ValueError(f"{', '.join(unknown)} has no scores; methods are {', '.join(summary.methods)}")
    history = [_without_nan(row) for row in earlier if not _is_own(row, protocol_hash, method_hashes)]
    if not methods:
        return [Finding("ok", "", "the run has no encoder to compare")]
    if not history:
        return [Finding("ok", "", "the first run: there is nothing to compare with")]
    same = [row for row in history if row["protocol_hash"] == protocol_hash]
    if not same:
        last = max(history, key=_when)
        text = f"the protocol differs from that of the last run, {last['run']}: nothing can be compared"
        return [Finding("warn", "", text)]
    failed = {(row["run"], row["method"]) for row in same if row.get("level") == "fail"}
    # all that such a run found of the encoder: identity may be lost for the sake of the text, and that is no new mark
    sound = [row for row in same if (row["run"], row["method"]) not in failed]
    findings = [
        _finding(method, column, summary.overall[method][column], _of(sound, method, column))
        for method in methods
        for column in summary.columns
        if column.startswith(GAP) or column == TEXT
    ]
    if not findings:
        return [Finding("warn", "", f"neither identity gaps nor {TEXT} were measured: nothing can be compared")]
    severity: tuple[Level, ...] = ("fail", "warn", "ok")
    return sorted(findings, key=lambda finding: severity.index(finding.level))


def _finding(method: str, column: str, now: Mapping[str, Any], before: list[Row]) -> Finding:
    if not before:
        return Finding("ok", column, "the first of this method", method)
    last = max(before, key=_when)
    if now["mean"] is None:
        return Finding("fail", column, f"no picture has a score; it was {last['mean']:.3f} in {last['run']}", method)
    fall = last["mean"] - now["mean"]
    text = f"{last['mean']:.3f} in {last['run']}, now {now['mean']:.3f}"
    if last["low"] is None:
        level: Level = "warn" if fall > 0 else "ok"
        return Finding(level, column, f"{text}; one subject alone has no interval to judge it by", method)
    room = max(last["mean"] - last["low"], _LEAST)
    if fall > room:
        return Finding("fail", column, f"{text}: it fell by {fall:.4f}, more than its interval of {room:.4f}", method)
    if fall > WARN_SHARE * room:
        return Finding("warn", column, f"{text}: it fell by {fall:.4f}, within its interval of {room:.4f}", method)
    best = max(before, key=lambda row: row["mean"])
    if best["low"] is not None and now["mean"] < min(best["low"], best["mean"] - _LEAST):
        text = f"{best['mean']:.3f} in {best['run']}, the best run, now {now['mean']:.3f}: it fell little by little"
        return Finding("warn", column, text, method)
    return Finding("ok", column, text, method)


def _of(rows: Iterable[Row], method: str, column: str) -> list[Row]:
    """The runs in which this was measured."""
    return [row for row in rows if row["method"] == method and row["column"] == column and row["mean"] is not None]


def _is_own(row: Row, protocol_hash: str, method_hashes: Mapping[str, str]) -> bool:
    return bool(row["protocol_hash"] == protocol_hash and row["method_hash"] == method_hashes.get(row["method"]))


def _shown(row: Row) -> str:
    return "no score" if row["mean"] is None else f"{row['mean']:.3f}"


def _without_nan(row: Row) -> Row:
    """Tables may hold nan where a summary has None."""
    return {name: None if isinstance(value, float) and isnan(value) else value for name, value in row.items()}


def _when(row: Row) -> tuple[str, str]:
    return str(row["finished"]), str(row["run"])
