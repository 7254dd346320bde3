"""History curves: one measure over runs, a line per method with its interval, broken where the protocol changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from adaface.evaluation.report.data import Column
from adaface.evaluation.report.drawing import Axis, axis_for, line, mark, svg, text, titled
from adaface.evaluation.report.estimates import Estimate, estimate
from adaface.evaluation.report.wording import write_day, write_time, write_with_range

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 42, 14, 16, 28
DAY = 62  # px that two days need
RUNS = 40  # the last ones


@dataclass(frozen=True)
class Run:
    """One run of the history; `found` is [method][column]."""

    name: str
    finished: str
    protocol: str
    found: Mapping[str, Mapping[str, Estimate]]


def runs_of(history: Sequence[Mapping[str, Any]]) -> list[Run]:
    """The runs of a history in any order, oldest first."""
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in history:
        rows.setdefault((str(row["finished"]), str(row["run"])), []).append(row)
    runs = []
    for (finished, name), own in sorted(rows.items()):
        found: dict[str, dict[str, Estimate]] = {}
        for row in own:
            found.setdefault(str(row["method"]), {})[str(row["column"])] = estimate(row)
        runs.append(Run(name, finished, str(own[0]["protocol_hash"]), found))
    return runs


def curves_svg(runs: Sequence[Run], methods: Sequence[str], hues: Mapping[str, str], name: str, column: Column) -> str:
    """A drawing of column `name` over the last runs; "" where fewer than two of them have a value."""
    runs = runs[-RUNS:]
    found = {method: [run.found.get(method, {}).get(name, estimate(None)) for run in runs] for method in methods}
    found = {method: own for method, own in found.items() if any(one.known for one in own)}
    if sum(any(own[place].known for own in found.values()) for place in range(len(runs))) < 2:
        return ""
    values = [value for own in found.values() for one in own for value in one.ends()]
    zero = column.group in ("identity", "guard")
    y_axis = axis_for(values, HEIGHT - BOTTOM, TOP, zero=zero, margin=0.08)
    x_axis = Axis(0, max(1, len(runs) - 1), LEFT + 6, WIDTH - RIGHT)
    marks = _frame(runs, x_axis, y_axis, column)
    for method, own in found.items():
        for piece in _pieces(runs, own):
            marks.append(_band(piece, own, x_axis, y_axis, hues[method]))
    for method, own in found.items():
        drawn = []
        for piece in _pieces(runs, own):
            path = " ".join(f"{x_axis.at(place):.1f},{y_axis.at(own[place].mean):.1f}" for place in piece)
            drawn.append(f'<polyline class="curve" points="{path}"/>')
        marks.append(titled(hues[method], method, drawn))
        for place, one in enumerate(own):
            if one.known:
                when = f"{runs[place].name}, {write_time(runs[place].finished)}"
                words = f"{method}, {when}: {write_with_range(one, column.share)}"
                size = 4.2 if place == len(runs) - 1 else 2.4
                marks.append(
                    titled(hues[method], words, [mark(hues[method], x_axis.at(place), y_axis.at(one.mean), size)])
                )
    return svg("chart curves", WIDTH, HEIGHT, f"{column.label} over {len(runs)} runs", marks)


def _frame(runs: Sequence[Run], x_axis: Axis, y_axis: Axis, column: Column) -> list[str]:
    base = HEIGHT - BOTTOM
    marks = []
    for tick in y_axis.ticks(4):
        y = y_axis.at(tick)
        marks.append(line("grid", LEFT, y, WIDTH - RIGHT, y))
        marks.append(text(LEFT - 6, y + 3.5, y_axis.write(tick, column.share), anchor="end"))
    marks.append(line("axis", LEFT, base, WIDTH - RIGHT, base))
    last = len(runs) - 1
    marked = [place for place in range(0, last, max(1, -(-last // 4))) if x_axis.at(last) - x_axis.at(place) > DAY]
    for place in [*marked, last]:
        x = x_axis.at(place)
        anchor = "start" if place == 0 else "end" if place == last else "middle"
        marks.append(line("axis", x, base, x, base + 4))
        marks.append(text(x - 6 * (place == 0), base + 17, write_day(runs[place].finished), anchor=anchor))
    for place in range(1, len(runs)):
        if runs[place].protocol != runs[place - 1].protocol:
            x = x_axis.at(place - 0.5)
            marks.append(
                f'<g class="break"><title>the protocol changed</title>{line("change", x, TOP - 6, x, base)}</g>'
            )
    return marks


def _pieces(runs: Sequence[Run], own: Sequence[Estimate]) -> list[list[int]]:
    """Places of runs that one line connects: of the same protocol, and measured."""
    known = [place for place, one in enumerate(own) if one.known]
    stretch = 0
    labels = []
    for place, run in enumerate(runs):
        stretch += place > 0 and run.protocol != runs[place - 1].protocol
        labels.append(stretch)
    return [list(piece) for _, piece in groupby(known, key=lambda place: labels[place])]


def _band(piece: Sequence[int], own: Sequence[Estimate], x_axis: Axis, y_axis: Axis, hue: str) -> str:
    piece = [place for place in piece if own[place].bounded]
    if not piece:
        return ""
    if len(piece) == 1:
        x = x_axis.at(piece[0])
        whisker = line("whisker", x, y_axis.at(own[piece[0]].low), x, y_axis.at(own[piece[0]].high))
        return f'<g class="{hue}">{whisker}</g>'
    upper = [f"{x_axis.at(place):.1f},{y_axis.at(own[place].high):.1f}" for place in piece]
    lower = [f"{x_axis.at(place):.1f},{y_axis.at(own[place].low):.1f}" for place in reversed(piece)]
    return f'<g class="{hue}"><polygon class="band" points="{" ".join(upper + lower)}"/></g>'
