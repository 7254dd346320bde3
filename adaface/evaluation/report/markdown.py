"""The same results as Markdown: a summary for where runs are followed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adaface.evaluation.report.coverage import thin_words
from adaface.evaluation.report.data import Column, ReportData
from adaface.evaluation.report.estimates import LEAST_SUBJECTS, best, by_definition, columns_in, overall
from adaface.evaluation.report.verdict import finding_rows, gaps_in_measurement, verdict
from adaface.evaluation.report.wording import (
    UNKNOWN,
    without_credentials,
    write,
    write_count,
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
    table = methods_table(data, names, [plain(name) for name in names], mark=True)
    if table:
        lines += [*table, ""]
        lines += [
            f"Means over subjects with 95% intervals over subjects, of {LEAST_SUBJECTS} at least. Bold is the best of a row, "
            f"{LEVEL} what the run cannot tell from it; a mean over less than half of the pictures takes no part.",
            "",
        ]
    warnings = [f"- {plain(warning)}" for warning in (*data.warnings, *gaps_in_measurement(data))]
    if warnings:
        lines += ["What to know before trusting the numbers:", "", *warnings, ""]
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


def methods_table(data: ReportData, methods: Sequence[str], heads: Sequence[str], *, mark: bool) -> list[str]:
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
