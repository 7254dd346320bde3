"""Histograms as inline SVG: two stacked series, labelled axes, thresholds as lines. Numbers in, markup out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape

from data_pipeline.report.quantities import Scale, Side

WIDTH, HEIGHT = 360, 206
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 34, 40
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
BASE = TOP + PLOT_HEIGHT


@dataclass(frozen=True)
class Threshold:
    """A number that rejects the values on one side of it, or beyond it in both directions."""

    value: float
    label: str
    side: Side

    def lines(self) -> tuple[float, ...]:
        return (-self.value, self.value) if self.side == "beyond" else (self.value,)


def histogram_svg(
    accepted: np.ndarray,
    rejected: np.ndarray,
    *,
    title: str,
    axis: str,
    thresholds: Sequence[Threshold] = (),
    scale: Scale = "linear",
    counted: str = "images",
) -> Markup:
    """Draw accepted (below) and rejected (stacked on top) values.

    Args:
        accepted: (A,) values; what is not finite is left out.
        rejected: (R,) values.
        title: what is shown, for screen readers.
        axis: label of the x axis, with the unit.
        thresholds: drawn as lines, the rejected side shaded.
        scale: `log` for long tails (values <= 0 fall into the first bin), `whole` for small integers.
        counted: what the y axis counts.

    Returns:
        An `<svg>` element without style attributes; empty markup when there is no finite value.
    """
    accepted, rejected = (np.asarray(side, np.float64)[np.isfinite(side)] for side in (accepted, rejected))
    both = np.concatenate([accepted, rejected])
    if not len(both):
        return Markup("")
    lines = [line for threshold in thresholds for line in threshold.lines()]
    edges = _edges(both, lines, scale)
    counts = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] for side in (accepted, rejected)]
    position = _Axis(edges, scale)
    top = max(1, int((counts[0] + counts[1]).max()))
    y_ticks = _count_ticks(top)
    height = PLOT_HEIGHT / (1.04 * top)

    marks = [_shade(threshold, position, scale) for threshold in thresholds]
    for tick in y_ticks:
        y = BASE - tick * height
        marks.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_short(tick)}</text>')
    for i, (low, high) in enumerate(pairwise(edges.tolist())):
        x0, x1 = position.x(low), position.x(high)
        span = _number((low + high) / 2, edges, scale) if scale == "whole" else _span(low, high, edges, scale)
        hover = f"{span}: {counts[0][i]:,} accepted, {counts[1][i]:,} rejected"
        marks.append(f'<g class="bin"><title>{escape(hover)}</title>')
        marks.append(f'<rect class="hit" x="{x0:.1f}" y="{TOP}" width="{x1 - x0:.1f}" height="{PLOT_HEIGHT}"/>')
        gap = 1 if x1 - x0 > 4 else 0
        bottom = float(BASE)
        for name, count in (("accepted", counts[0][i]), ("rejected", counts[1][i])):
            if count:
                # Bars of one image among thousands stay visible.
                tall = max(count * height, 1.0)
                bottom -= tall
                marks.append(
                    f'<rect class="{name}" x="{x0:.1f}" y="{bottom:.1f}" width="{x1 - x0 - gap:.1f}" height="{tall:.1f}"/>'
                )
        marks.append("</g>")
    marks.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{BASE}" y2="{BASE}"/>')
    for tick in _ticks(edges, scale):
        x = position.x(tick)
        marks.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{BASE}" y2="{BASE + 4}"/>')
        marks.append(
            f'<text class="tick" x="{x:.1f}" y="{BASE + 15}" text-anchor="middle">{_number(tick, edges, scale)}</text>'
        )
    marks.append(
        f'<text class="label" x="{LEFT + PLOT_WIDTH / 2:.1f}" y="{HEIGHT - 7}" text-anchor="middle">{escape(axis)}</text>'
    )
    marks.append(f'<text class="label" x="{LEFT - 34}" y="12">{escape(counted)}</text>')
    for level, threshold in enumerate(thresholds):
        marks.append(_line(threshold, position, scale, level))
    summary = f"{title}: {len(accepted):,} accepted and {len(rejected):,} rejected {counted}"
    opening = f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(summary)}">'
    return Markup(opening + "".join(marks) + "</svg>")


class _Axis:
    """From values to x in the drawing."""

    def __init__(self, edges: np.ndarray, scale: Scale):
        self._log = scale == "log"
        self._low, self._high = (float(np.log10(edge)) if self._log else float(edge) for edge in (edges[0], edges[-1]))

    def x(self, value: float) -> float:
        place = np.log10(max(value, 1e-12)) if self._log else value
        share = (place - self._low) / (self._high - self._low)
        return LEFT + PLOT_WIDTH * float(np.clip(share, 0, 1))


def _edges(values: np.ndarray, lines: Sequence[float], scale: Scale) -> np.ndarray:
    if scale == "log":
        positive = values[values > 0]
        low = min([*(positive.min(initial=np.inf),), *(line for line in lines if line > 0)])
        high = max(values.max(), *lines, 0.0)
        if not np.isfinite(low) or low >= high:
            low, high = (high / 2, high * 2) if high > 0 else (0.1, 10.0)
        low, high = _widened(np.log10(low), np.log10(high), [float(np.log10(line)) for line in lines if line > 0])
        return 10.0 ** np.linspace(low - 0.02, high + 0.02, 29)
    if scale == "whole":
        low, high = (
            find([find(values), *(line + side for line in lines)]) for find, side in ((np.min, -1), (np.max, 1))
        )
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + 1)
    low, high = _widened(values.min(), values.max(), lines)
    if high - low < 1e-6 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    step = _nice((high - low) / 30)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return np.arange(first, max(last, first + 1) + 1) * step


def _widened(low: float, high: float, lines: Sequence[float]) -> tuple[float, float]:
    """The range with every threshold inside it, and some of the rejected side of a threshold at its end in view."""
    low, high = min(low, *lines, low), max(high, *lines, high)
    margin = 0.05 * (high - low)
    return min(low, *(line - margin for line in lines), low), max(high, *(line + margin for line in lines), high)


def _nice(step: float) -> float:
    """The smallest of 1, 2, 2.5, 5 x 10^k that is not below `step`."""
    power = 10.0 ** np.floor(np.log10(step))
    return next(float(factor * power) for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def _ticks(edges: np.ndarray, scale: Scale) -> np.ndarray:
    low, high = float(edges[0]), float(edges[-1])
    if scale == "log":
        decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
            ticks = np.array([factor * 10.0**decade for decade in decades for factor in factors])
            ticks = ticks[(ticks >= low) & (ticks <= high)]
            if len(ticks) <= 7:
                break
        return ticks
    step = _nice((high - low) / 6)
    if scale == "whole":
        step = max(1.0, float(np.ceil(step)))
    ticks = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    return ticks


def _count_ticks(top: int) -> list[int]:
    step = max(1, round(_nice(top / 4)))
    return list(range(0, top + 1, step))


def _number(value: float, edges: np.ndarray, scale: Scale) -> str:
    if scale == "whole":
        return f"{value:.0f}".replace("-", "\N{MINUS SIGN}")
    width = float(edges[-1] - edges[0]) if scale == "linear" else abs(value)
    decimals = int(np.clip(2 - np.floor(np.log10(max(width, 1e-9))), 0, 4))
    text = f"{value:,.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text.replace("-", "\N{MINUS SIGN}")


def _span(low: float, high: float, edges: np.ndarray, scale: Scale) -> str:
    return f"{_number(low, edges, scale)} to {_number(high, edges, scale)}"


def _short(count: int) -> str:
    return f"{count / 1e6:g}M" if count >= 1_000_000 else f"{count / 1000:g}k" if count >= 10_000 else f"{count:,}"


def _places(threshold: Threshold, position: _Axis, scale: Scale) -> list[float]:
    # Between whole numbers, so that the line divides the bars as the rule divides the images.
    offset = {"below": -0.5, "above": 0.5, "beyond": 0.0}[threshold.side] if scale == "whole" else 0.0
    return [position.x(line + offset) for line in threshold.lines()]


def _shade(threshold: Threshold, position: _Axis, scale: Scale) -> str:
    places = _places(threshold, position, scale)
    left, right = (float(LEFT), places[0]), (places[-1], float(WIDTH - RIGHT))
    spans = [left] if threshold.side == "below" else [right] if threshold.side == "above" else [left, right]
    return "".join(
        f'<rect class="out" x="{x0:.1f}" y="{TOP}" width="{max(x1 - x0, 0):.1f}" height="{PLOT_HEIGHT}"/>'
        for x0, x1 in spans
    )


def _line(threshold: Threshold, position: _Axis, scale: Scale, level: int) -> str:
    places = _places(threshold, position, scale)
    marks = [f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{BASE}"/>' for x in places]
    x = sum(places) / len(places)
    # The label hangs on the side where there is room; of two lines it stands between them.
    anchor = "middle" if len(places) > 1 else "end" if x > WIDTH * 0.55 else "start"
    shift = {"start": -2, "middle": 0, "end": 2}[anchor]
    y = TOP - 8 - 12 * level
    marks.append(
        f'<text class="rule" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{escape(threshold.label)}</text>'
    )
    return "".join(marks)
