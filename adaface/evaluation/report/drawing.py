"""What the charts share: axes with round ticks, marks of methods, colours by class. Numbers in, SVG markup out.

Colours are CSS classes that set `color`; marks are drawn in `currentColor`. Nothing here has a style attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from adaface.evaluation.report.data import ReportData

HUES = 6  # colours of the methods that are judged, c0 .. c5; further ones begin again
MINUS = "\N{MINUS SIGN}"


def hues(data: ReportData) -> dict[str, str]:
    """Method -> CSS class of its colour: `base`, `teach`, or c0 .. c5."""
    found = {name: "base" if name == data.baseline else "teach" for name in (data.baseline, data.teacher) if name}
    return found | {name: f"c{place % HUES}" for place, name in enumerate(data.candidates)}


def mark(hue: str, x: float, y: float, size: float = 4.5) -> str:
    """The mark of a method: a square for the baseline, a diamond for the teacher, a disc for the others."""
    if hue == "base":
        side = 0.88 * size
        return f'<rect class="mark" x="{x - side:.1f}" y="{y - side:.1f}" width="{2 * side:.1f}" height="{2 * side:.1f}"/>'
    if hue == "teach":
        r = 1.25 * size
        points = f"{x:.1f},{y - r:.1f} {x + r:.1f},{y:.1f} {x:.1f},{y + r:.1f} {x - r:.1f},{y:.1f}"
        return f'<polygon class="mark" points="{points}"/>'
    return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>'


def key(hue: str) -> str:
    """The mark alone, for keys and headings."""
    return f'<svg class="swatch {hue}" viewBox="0 0 12 12" aria-hidden="true">{mark(hue, 6, 6, 4.2)}</svg>'


@dataclass(frozen=True)
class Axis:
    """From values in low..high to a place in start..end of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * float(np.clip(share, 0, 1))

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers within the axis, `about` so many."""
        step = nice((self.high - self.low) / about)
        first, last = np.ceil(self.low / step - 1e-9), np.floor(self.high / step + 1e-9)
        return [float(place * step) for place in np.arange(first, last + 1)]

    @staticmethod
    def write(value: float, share: bool = False) -> str:
        """A tick in as few digits as it has."""
        text = f"{round(100 * value if share else value, 6) + 0.0:g}".replace("-", MINUS)
        return f"{text}%" if share else text


def axis_for(
    values: Iterable[float], start: float, end: float, *, zero: bool = False, unit: bool = False, margin: float = 0.06
) -> Axis:
    """An axis that holds all finite values with some room.

    Args:
        zero: 0 is on it.
        unit: 0 and 1 are on it, and no room beyond them unless values lie there.
    """
    finite = [float(value) for value in values if np.isfinite(value)]
    if zero or unit:
        finite.append(0.0)
    if unit:
        finite.append(1.0)
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    room = margin * (high - low)
    low_room = 0.0 if (zero or unit) and low == 0 else room
    high_room = 0.0 if unit and high == 1 else room
    return Axis(low - low_room, high + high_room, start, end)


def nice(step: float) -> float:
    """The smallest of 1, 2, 2.5, 5 x 10^k that is not below `step`."""
    power = 10.0 ** np.floor(np.log10(step))
    return next(float(factor * power) for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, *, kind: str = "tick", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def titled(hue: str, title: str, marks: Sequence[str]) -> str:
    """A group in the colour of a method, with words that appear under the pointer."""
    return f'<g class="{hue}"><title>{escape(title)}</title>{"".join(marks)}</g>'


def svg(kind: str, width: float, height: float, label: str, marks: Sequence[str]) -> str:
    """The whole drawing; `label` is for those who cannot see it."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        + "".join(marks)
        + "</svg>"
    )
