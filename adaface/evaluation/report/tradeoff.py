"""Identity against text, one mark a method with its intervals: what a method pays for a likeness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaface.evaluation.report.data import Column
from adaface.evaluation.report.drawing import Axis, axis_for, line, mark, svg, text, titled
from adaface.evaluation.report.estimates import Estimate
from adaface.evaluation.report.wording import shortened, write_with_range

WIDTH, HEIGHT = 520, 350
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 26, 46
GLYPH, LINE = 9.4, 18.0  # px, rough size of a label's letters where they are largest, on a phone


@dataclass(frozen=True)
class Point:
    """A method, and where it was in earlier runs of the same protocol, oldest first: (x, y)."""

    method: str
    hue: str
    x: Estimate
    y: Estimate
    trail: Sequence[tuple[float, float]] = ()


def tradeoff_svg(points: Sequence[Point], across: Column, up: Column) -> str:
    """A scatter of the points of which both values are known; "" where there is none."""
    points = [point for point in points if point.x.known and point.y.known]
    if not points:
        return ""
    xs = [value for point in points for value in (*point.x.ends(), *(x for x, _ in point.trail))]
    ys = [value for point in points for value in (*point.y.ends(), *(y for _, y in point.trail))]
    x_axis = axis_for(xs, LEFT, WIDTH - RIGHT, margin=0.14)
    y_axis = axis_for(ys, HEIGHT - BOTTOM, TOP, zero=True, margin=0.1)
    marks = _frame(x_axis, y_axis, across, up)
    for point in points:
        if point.trail:
            way = [*point.trail, (point.x.mean, point.y.mean)]
            path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in way)
            dots = [
                f'<circle class="past" cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="2.6"/>' for x, y in way[:-1]
            ]
            title = f"{point.method}: {len(dots)} earlier runs"
            marks.append(titled(point.hue, title, [f'<polyline class="trail" points="{path}"/>', *dots]))
    taken: list[tuple[float, float, float, float]] = []
    for point in points:
        x, y = x_axis.at(point.x.mean), y_axis.at(point.y.mean)
        taken.append((x - 7, y - 7, x + 7, y + 7))
    for point in points:
        x, y = x_axis.at(point.x.mean), y_axis.at(point.y.mean)
        drawn = []
        if point.x.bounded:
            drawn.append(line("whisker", x_axis.at(point.x.low), y, x_axis.at(point.x.high), y))
        if point.y.bounded:
            drawn.append(line("whisker", x, y_axis.at(point.y.low), x, y_axis.at(point.y.high)))
        drawn.append(mark(point.hue, x, y, 5.5))
        drawn.append(_label(shortened(point.method, 30), x, y, taken))
        words = (
            f"{point.method}: {up.label.lower()} {write_with_range(point.y, up.share)}, "
            f"{across.label.lower()} {write_with_range(point.x, across.share)}"
        )
        marks.append(titled(point.hue, words, drawn))
    label = f"{up.label} against {across.label.lower()} of {', '.join(point.method for point in points)}"
    return svg("chart tradeoff", WIDTH, HEIGHT, label, marks)


def _frame(x_axis: Axis, y_axis: Axis, across: Column, up: Column) -> list[str]:
    base = HEIGHT - BOTTOM
    marks = []
    for tick in y_axis.ticks(5):
        y = y_axis.at(tick)
        marks.append(line("grid", LEFT, y, WIDTH - RIGHT, y))
        marks.append(text(LEFT - 8, y + 4, y_axis.write(tick, up.share), anchor="end"))
    for tick in x_axis.ticks(5):
        x = x_axis.at(tick)
        marks.append(line("grid", x, TOP, x, base))
        marks.append(text(x, base + 17, x_axis.write(tick, across.share), anchor="middle"))
    marks.append(line("axis", LEFT, base, WIDTH - RIGHT, base))
    marks.append(line("axis", LEFT, TOP, LEFT, base))
    marks.append(text(WIDTH - RIGHT, HEIGHT - 9, f"{across.label} \N{RIGHTWARDS ARROW}", kind="label", anchor="end"))
    marks.append(text(LEFT - 48, 14, f"\N{UPWARDS ARROW} {up.label}", kind="label"))
    return marks


def _label(words: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> str:
    """The name beside its mark: the first of a few places where it covers nothing, and lies in the drawing."""
    width = GLYPH * len(words)
    best: tuple[float, str, float, float, tuple[float, float, float, float]] | None = None
    for down in (-8, 16, -27, 35, -46, 54, -65, 73, -84, 92):
        for anchor, side in (("start", 11), ("end", -11)):
            left = x + side if anchor == "start" else x + side - width
            box = (left, y + down - LINE + 3, left + width, y + down + 3)
            outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - WIDTH + 4)
            outside += max(0.0, TOP - box[1]) + max(0.0, box[3] - HEIGHT + BOTTOM)
            covered = sum(_overlap(box, other) for other in taken)
            cost = 40 * outside + covered + 0.3 * abs(down) + (anchor == "end")
            if best is None or cost < best[0]:
                best = cost, anchor, x + side, y + down, box
    assert best is not None
    taken.append(best[4])
    drawn = text(best[2], best[3], words, kind="name", anchor=best[1])
    if abs(best[3] - y) > 20:  # too far away to be seen as its own
        drawn += line("leader", x, y, best[2], best[3] - 5)
    return drawn


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Area that two boxes share, square px."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
