"""The same results as Markdown: a summary for where runs are followed, and a section for the model card of an encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from adaface.evaluation.report.columns import DIRECTIONS
from adaface.evaluation.report.coverage import thin_words
from adaface.evaluation.report.data import Column, ReportData
from adaface.evaluation.report.estimates import best, by_definition, ceiling, columns_in, overall, recognisers
from adaface.evaluation.report.verdict import finding_rows, gaps_in_measurement, verdict
from adaface.evaluation.report.wording import (
    UNKNOWN,
    without_credentials,
    write,
    write_count,
    write_percent,
    write_time,
    write_with_range,
)

ARROWS = {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}", "none": ""}
LEVEL = "\N{ALMOST EQUAL TO}"
LEVELS = {"fail": "**Worse**", "warn": "**Look**", "ok": "Fine"}


def markdown(data: ReportData) -> str:
    """The verdict, the findings, the headline table and what was not measured; a page at most."""
    lines = [f"# {plain(data.title)}", ""]
    if data.finished:
        lines += [f"Finished {plain(write_time(data.finished))}. {_extent(data)}", ""]
    else:
        lines += [_extent(data), ""]
    for line in verdict(data):
        words = line["text"]
        lines += [f"**{plain(line['method'])}**{'' if words.startswith(':') else ' '}{plain(words)}", ""]
    findings = [
        f"- {LEVELS.get(found['level'], plain(found['level']))}: "
        + ", ".join(plain(part) for part in (found["method"], found["about"]) if part)
        + (": " if found["method"] or found["about"] else "")
        + plain(found["text"])
        for found in finding_rows(data)
    ]
    if findings:
        lines += [*findings, ""]
    names = [method.name for method in data.methods]
    table = _table(data, names, [plain(name) for name in names], mark=True)
    if table:
        lines += [*table, ""]
        lines += [
            f"Means over subjects with 95% intervals over subjects. Bold is the best of a row, {LEVEL} what the run "
            "cannot tell from it; a mean over less than half of the pictures takes no part.",
            "",
        ]
    warnings = [f"- {plain(warning)}" for warning in (*data.warnings, *gaps_in_measurement(data))]
    if warnings:
        lines += ["What to know before trusting the numbers:", "", *warnings, ""]
    return "\n".join(lines).rstrip() + "\n"


def model_card_section(data: ReportData, method: str) -> str:
    """The section `## Evaluation` of the model card of `method`: beside teacher and baseline, where the run has them.

    Subjects are counted, not named. Raises ValueError for a method that is not in the run.
    """
    known = [one.name for one in data.methods]
    if method not in known:
        raise ValueError(f"the run has no method {method!r}; it has {', '.join(known)}")
    shown = {method: "this model"}
    if data.baseline and data.baseline != method:
        shown[data.baseline] = "class word alone"
    if data.teacher and data.teacher != method:
        shown[data.teacher] = "teacher"
    lines = ["## Evaluation", ""]
    own = int((np.asarray(data.scores["method"]) == method).sum())
    when = f" on {plain(write_time(data.finished))}" if data.finished else ""
    lines += [
        f"Measured{when}: {write_count(own, 'picture')} of {write_count(len(data.subjects), 'subject')}, "
        f"{write_count(len(data.prompts), 'prompt')}.",
        "",
    ]
    if data.protocol:
        lines += [*(f"- {plain(name)}: {plain(value)}" for name, value in data.protocol.items()), ""]
    table = _table(data, list(shown), list(shown.values()), mark=False)
    if not table:
        return "\n".join([*lines, "Nothing was measured."]).rstrip() + "\n"
    lines += [*table, ""]
    lines += ["Means over subjects; in brackets 95% intervals over subjects (bootstrap).", ""]
    limits = [
        f"- Two real photos of one person have a face similarity of {write(limit)} by {plain(name)}."
        for name in recognisers(data)
        if np.isfinite(limit := ceiling(data, name))
    ]
    found = data.values("detected")[np.asarray(data.scores["method"]) == method]
    if np.isfinite(found).any():
        lost = int((found == 0).sum())
        share = write_percent(lost / int(np.isfinite(found).sum()))
        limits.append(f"- No face was found in {write_count(lost)} of its pictures ({share}).")
    limits += [f"- {plain(warning)}" for warning in (*data.warnings, *gaps_in_measurement(data))]
    lines += ["What the measures mean:", "", *_meanings(data), ""]
    if limits:
        lines += ["What else to know:", "", *limits, ""]
    hashes = next(one.provenance for one in data.methods if one.name == method)
    sums = [f"`{plain(str(name))}` {plain(value)}" for name, value in hashes.items() if _is_hash(name, value)]
    if sums:
        lines += [f"Judged weights: {', '.join(sums)}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def plain(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    text = " ".join(without_credentials(text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def _extent(data: ReportData) -> str:
    return (
        f"{write_count(len(data), 'picture')} by {write_count(len(data.methods), 'method')}, of "
        f"{write_count(len(data.subjects), 'subject')} and {write_count(len(data.prompts), 'prompt')}."
    )


def _table(data: ReportData, methods: Sequence[str], heads: Sequence[str], *, mark: bool) -> list[str]:
    """The main measures; empty where none was measured."""
    rows = []
    for name, column in columns_in(data, main=True):
        cells = _cells(data, methods, name, column, mark)
        if any(cell != UNKNOWN for cell in cells):
            rows.append(f"| {plain(column.label)}{ARROWS[column.direction]} | {' | '.join(cells)} |")
    if not rows:
        return []
    return [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|", *rows]


def _cells(data: ReportData, methods: Sequence[str], name: str, column: Column, mark: bool) -> list[str]:
    top, level = best(data, name, column) if mark else (None, set())
    cells = []
    for method in methods:
        found = overall(data, method, name)
        words = (
            write(found.mean, column.share)
            if by_definition(data, method, name)
            else write_with_range(found, column.share)
        )
        if thin := thin_words(data, method, name):
            words = f"{words}, {thin}"
        cells.append(f"**{words}**" if method == top else f"{words} {LEVEL}" if method in level else words)
    return cells


def _meanings(data: ReportData) -> list[str]:
    told: Mapping[str, Column] = dict(columns_in(data, main=True))
    return [
        f"- {plain(column.label)} ({DIRECTIONS[column.direction]}): {plain(column.about)}"
        + (f" Measured by {plain(column.model)}." if column.model else "")
        for column in told.values()
    ]


def _is_hash(name: object, value: object) -> bool:
    return isinstance(value, str) and ("sha256" in str(name) or "hash" in str(name))
