"""`adaface doctor`: what is there, what is missing, and what to do about each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from adaface.full_size import Sizes

Level = Literal["ok", "info", "warn", "fail"]
_COLOURS = {"ok": "32", "info": "36", "warn": "33", "fail": "31"}


@dataclass(frozen=True)
class Finding:
    """One line of the examination. `fail`: a build cannot work; `warn`: it may not; `info`: good to know."""

    level: Level
    area: str
    what: str
    remedy: str = ""


def examine(config_file: str | None = None, overrides: Sequence[str] = ()) -> list[Finding]:
    """Look at this machine and, with a configuration, at its model files, sources and output."""
    from flows.doctor_config import examine_config
    from flows.doctor_machine import examine_machine

    findings = list(examine_machine())
    if config_file is None:
        findings.append(
            Finding("info", "models", "not looked at", "name a configuration: adaface doctor --config FILE")
        )
    else:
        findings += examine_config(config_file, overrides)
    return findings


def examine_full_size(sizes: Sizes | None = None) -> Iterator[Finding]:
    """Build and run models of the size of Stable Diffusion 1.5; each stage is told on standard error when it is done."""
    from adaface.full_size import LIMIT, measure, threads

    try:
        stages, peak = measure(sizes, lambda line: print(line, file=sys.stderr, flush=True))
    except (MemoryError, RuntimeError) as error:
        yield Finding("fail", "full size", str(error))
        return
    for stage in stages:
        yield Finding("ok", "full size", str(stage))
    total = sum(stage.seconds for stage in stages)
    said = f"{total:.0f} s together on {threads()}; {peak / 1e9:.1f} GB at most, of a limit of {LIMIT / 1e9:.0f} GB"
    if peak <= LIMIT:
        yield Finding("ok", "full size", said)
    else:
        yield Finding(
            "fail", "full size", said, "free memory before a run with the real models, or use a larger machine"
        )


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where something must be repaired, else 0."""
    return int(any(finding.level == "fail" for finding in findings))


def print_table(findings: Sequence[Finding], out: TextIO) -> None:
    """A table for people; in colour where `out` is a terminal."""
    width = max((len(finding.area) for finding in findings), default=0)
    margin = " " * (width + 8)
    for finding in findings:
        level = f"{finding.level:<4}"
        if out.isatty():
            level = f"\033[{_COLOURS[finding.level]}m{level}\033[0m"
        print(f"{level}  {finding.area:<{width}}  {_indent(finding.what, margin)}", file=out)
        if finding.remedy:
            print(f"{margin}-> {_indent(finding.remedy, margin + '   ')}", file=out)
    fails = sum(finding.level == "fail" for finding in findings)
    warnings = sum(finding.level == "warn" for finding in findings)
    print(f"\n{_count(fails, 'thing')} to repair, {_count(warnings, 'warning')}", file=out)


def print_json(findings: Sequence[Finding], out: TextIO) -> None:
    """A list of objects with the fields of Finding, for programs."""
    json.dump([asdict(finding) for finding in findings], out, indent=2, ensure_ascii=False)
    out.write("\n")


def _indent(text: str, margin: str) -> str:
    return text.replace("\n", f"\n{margin}")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
