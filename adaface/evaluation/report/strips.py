"""One measure, all methods: a mark with its interval on a line each, over a common axis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adaface.evaluation.report.data import Column
from adaface.evaluation.report.drawing import axis_for, line, mark, svg, text, titled
from adaface.evaluation.report.estimates import Estimate
from adaface.evaluation.report.wording import write_with_range

WIDTH = 244
STEP, TOP, FOOT = 10, 7, 15


def strip_svg(
    estimates: Mapping[str, Estimate], hues: Mapping[str, str], column: Column, *, ceiling: float = float("nan")
) -> str:
    """A drawing of `estimates` by method, in their order; "" where none is known.

    Args:
        hues: colour classes by method.
        ceiling: drawn as a dashed line, where it is finite.
    """
    known = {method: found for method, found in estimates.items() if found.known}
    if not known:
        return ""
    values = [value for found in known.values() for value in found.ends()]
    # text alignment lies in a narrow band far from 0, everything else is read against 0
    axis = axis_for(
        [*values, ceiling], 10, WIDTH - 10, zero=column.group in ("identity", "guard", "picture"), unit=column.share
    )
    height = TOP + STEP * len(known) + FOOT
    base = height - FOOT
    marks = [line("axis", 10, base, WIDTH - 10, base)]
    if axis.low < 0 < axis.high:
        marks.append(line("zero", axis.at(0), 2, axis.at(0), base))
    if np.isfinite(ceiling):
        marks.append(line("ceiling", axis.at(ceiling), 2, axis.at(ceiling), base))
    ticks = axis.ticks(3)
    for tick in ticks:
        x = axis.at(tick)
        anchor = "start" if x < 22 else "end" if x > WIDTH - 22 else "middle"
        marks.append(line("axis", x, base, x, base + 3))
        marks.append(
            text(
                x - (4 if anchor == "start" else -4 if anchor == "end" else 0),
                base + 12.5,
                axis.write(tick, column.share),
                anchor=anchor,
            )
        )
    for place, (method, found) in enumerate(known.items()):
        y = TOP + STEP * place + 1
        drawn = []
        if found.bounded:
            drawn.append(line("whisker", axis.at(found.low), y, axis.at(found.high), y))
        drawn.append(mark(hues[method], axis.at(found.mean), y, 3.6))
        marks.append(titled(hues[method], f"{method}: {write_with_range(found, column.share)}", drawn))
    return svg("strip", WIDTH, height, f"{column.label} of {len(known)} methods", marks)
