"""A section for the model card of an encoder, and how it comes into the card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from adaface.evaluation.report.columns import DIRECTIONS
from adaface.evaluation.report.data import Column, ReportData
from adaface.evaluation.report.estimates import LEAST_SUBJECTS, ceiling, columns_in, recognisers
from adaface.evaluation.report.markdown import methods_table, plain
from adaface.evaluation.report.verdict import gaps_in_measurement
from adaface.evaluation.report.wording import write, write_count, write_percent, write_time

HEADING = "## Evaluation"


def model_card_section(data: ReportData, method: str) -> str:
    """The section `## Evaluation` of the model card of `method`: beside teacher and baseline, where the run has them.

    Cards are published: subjects are counted, not named, and nothing says where files lay.

    Raises ValueError for a method that is not in the run.
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
    table = methods_table(data, list(shown), list(shown.values()), mark=False)
    if not table:
        return "\n".join([*lines, "Nothing was measured."]).rstrip() + "\n"
    lines += [*table, ""]
    lines += [
        f"Means over subjects; in brackets 95% intervals over subjects (bootstrap), of {LEAST_SUBJECTS} at least.",
        "",
    ]
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
    limits += [f"- {plain(warning)}" for warning in (*data.warnings, *gaps_in_measurement(data, named=False))]
    lines += ["What the measures mean:", "", *_meanings(data), ""]
    if limits:
        lines += ["What else to know:", "", *limits, ""]
    lines += _origin(data, method, list(shown))
    return "\n".join(lines).rstrip() + "\n"


def with_section(card: str, section: str) -> str:
    """The card with `section` in the place of the one that it has, else at its end.

    Raises ValueError for a text that is no such section.
    """
    if not section.startswith(f"{HEADING}\n"):
        raise ValueError(f"this is no section of a model card: it does not begin with {HEADING!r}")
    own = re.compile(rf"^{re.escape(HEADING)}[ \t]*$.*?(?=^# |^## |\Z)", re.MULTILINE | re.DOTALL)
    found = own.search(card)
    if found is None:
        return f"{card.rstrip()}\n\n{section.rstrip()}\n".lstrip()
    behind = card[found.end() :]
    return card[: found.start()] + section.rstrip() + "\n" + (f"\n{behind}" if behind else "")


def judged(section: str) -> list[str]:
    """The sha256 of what a section is about, as `model_card_section` wrote them."""
    found = re.search(r"^Judged weights: (.*)$", section, re.MULTILINE)
    return re.findall(r"\b[0-9a-f]{64}\b", found[1]) if found else []


def _origin(data: ReportData, method: str, shown: Sequence[str]) -> list[str]:
    """What was judged, by which models and which versions of the software: enough to ask the same again."""
    others = [one.name for one in data.methods if one.name not in shown]
    models, versions = (data.provenance.get(name) for name in ("models", "versions"))
    lines = []
    if isinstance(models, Mapping) and models:
        lines += ["Models, by the sha256 of their files (a name where the hub's was taken):", ""]
        told = [(str(role), str(value)) for role, value in models.items()]
        told = [(role, value) for role, value in told if not role.startswith(tuple(f"{name}: " for name in others))]
        lines += [*(f"- {plain(role)}: {plain(value)}" for role, value in told), ""]
    if isinstance(versions, Mapping) and versions:
        lines += [
            f"Versions: {', '.join(f'{plain(str(name))} {plain(str(value))}' for name, value in versions.items())}.",
            "",
        ]
    hashes = [f"{name.removesuffix(' hash')} `{plain(value)}`" for name, value in _hashes(data.provenance)]
    if hashes:
        lines += [f"Hashes: {', '.join(hashes)}.", ""]
    own = next(one.provenance for one in data.methods if one.name == method)
    sums = [f"`{plain(name)}` {plain(value)}" for name, value in _hashes(own)]
    if sums:
        lines += [f"Judged weights: {', '.join(sums)}.", ""]
    return lines


def _hashes(provenance: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in provenance.items():
        if isinstance(value, str) and ("sha256" in str(name) or "hash" in str(name)):
            yield str(name), value


def _meanings(data: ReportData) -> list[str]:
    told: Mapping[str, Column] = dict(columns_in(data, main=True))
    return [
        f"- {plain(column.label)} ({DIRECTIONS[column.direction]}): {plain(column.about)}"
        + (f" Measured by {plain(column.model)}." if column.model else "")
        for column in told.values()
    ]
