"""Bars by category: one measure, a group of bars per category, a bar per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adaface.evaluation.report.data import Column
from adaface.evaluation.report.drawing import axis_for, line, svg, text, titled
from adaface.evaluation.report.estimates import Estimate
from adaface.evaluation.report.wording import shortened, write, write_with_range

WIDTH = 360
LEFT, RIGHT, TOP, FOOT = 8, 46, 6, 22
HEAD, BAR, STEP, GAP = 17, 9, 12, 9  # px: line of a category's name, a bar, from bar to bar, space after a category


def bars_svg(groups: Sequence[tuple[str, Mapping[str, Estimate]]], hues: Mapping[str, str], column: Column) -> str:
    """A drawing of (category, estimates by method); "" where nothing is known."""
    groups = [(name, {m: found for m, found in of.items() if found.known}) for name, of in groups]
    groups = [(name, of) for name, of in groups if of]
    if not groups:
        return ""
    values = [value for _, of in groups for found in of.values() for value in found.ends()]
    axis = axis_for(values, LEFT, WIDTH - RIGHT, zero=True, unit=column.share, margin=0.02)
    height = TOP + sum(HEAD + STEP * len(of) + GAP for _, of in groups) + FOOT
    base = height - FOOT
    marks = []
    for tick in axis.ticks(4):
        x = axis.at(tick)
        marks.append(line("grid", x, TOP, x, base))
        marks.append(text(x, base + 14, axis.write(tick, column.share), anchor="start" if x < 16 else "middle"))
    y, zero = float(TOP), axis.at(0)
    marks.append(line("axis", zero, TOP, zero, base))
    for name, of in groups:
        marks.append(text(LEFT, y + HEAD - 5, shortened(name, 40), kind="name"))
        y += HEAD
        for method, found in of.items():
            end = axis.at(found.mean)
            middle = y + BAR / 2
            place = f'x="{min(zero, end):.1f}" y="{y:.1f}" width="{max(abs(end - zero), 0.8):.1f}" height="{BAR}"'
            drawn = [f'<rect class="bar" {place}/>']
            if found.bounded:
                drawn.append(line("reach", axis.at(found.low), middle, axis.at(found.high), middle))
            words = f"{name}, {method}: {write_with_range(found, column.share)}, {found.images} pictures"
            marks.append(titled(hues[method], words, drawn))
            marks.append(
                text(WIDTH - 2, y + BAR - 0.6, write(found.mean, column.share, 2), kind="value", anchor="end")
            )
            y += STEP
        y += GAP
    return svg("chart bars", WIDTH, height, f"{column.label} by category", marks)
