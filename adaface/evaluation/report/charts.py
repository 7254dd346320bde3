"""The charts of the page: which measures of which methods are drawn."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from adaface.evaluation.report.bars import bars_svg
from adaface.evaluation.report.curves import RUNS, curves_svg, runs_of
from adaface.evaluation.report.data import ReportData
from adaface.evaluation.report.drawing import hues
from adaface.evaluation.report.estimates import by_category, overall, recognisers
from adaface.evaluation.report.tradeoff import Point, tradeoff_svg

CATEGORIES = 24


def tradeoffs(data: ReportData) -> list[dict[str, Any]]:
    """A scatter for every recogniser: its identity gap against text alignment, with earlier runs of the same protocol."""
    across = next((name for name in ("clip_text", "composition") if data.has(name) and name in data.columns), None)
    if across is None:
        return []
    colours, runs = hues(data), runs_of(data.history)
    protocol = next((run.protocol for run in runs if run.name == data.run), None)
    earlier = [run for run in runs if run.protocol == protocol and run.name != data.run]
    drawn = []
    for name in recognisers(data):
        up = next((c for c in (f"gap_{name}", f"face_{name}") if data.has(c) and c in data.columns), None)
        if up is None:
            continue
        points = []
        for method in data.methods:
            cells = [run.found.get(method.name, {}) for run in earlier]
            trail = [
                (cell[across].mean, cell[up].mean)
                for cell in cells
                if across in cell and up in cell and cell[across].known and cell[up].known
            ]
            judged = method.name in data.candidates
            points.append(
                Point(
                    method.name,
                    colours[method.name],
                    overall(data, method.name, across),
                    overall(data, method.name, up),
                    trail[-RUNS:] if judged else (),
                )
            )
        picture = tradeoff_svg(points, data.columns[across], data.columns[up])
        if picture:
            drawn.append(
                {
                    "recogniser": name,
                    "model": data.columns[up].model,
                    "several": len(recognisers(data)) > 1,
                    "svg": picture,
                    "trail": any(point.trail for point in points),
                }
            )
    return drawn


def category_charts(data: ReportData) -> list[dict[str, Any]]:
    """A drawing per measure, of the first categories."""
    wanted = [*(f"gap_{name}" for name in recognisers(data)), "clip_text", "composition", "detected"]
    if not any(data.has(name) for name in wanted[:-3]):
        wanted = [*(f"face_{name}" for name in recognisers(data)), *wanted[-3:]]
    names = list(data.summary.get("categories", []))[:CATEGORIES]
    drawn = []
    for column in wanted:
        if column not in data.columns or not data.has(column):
            continue
        if column == "detected" and not (data.values("detected") == 0).any():
            continue
        groups = [
            (name, {method.name: by_category(data, method.name, name, column) for method in data.methods})
            for name in names
        ]
        picture = bars_svg(groups, hues(data), data.columns[column])
        if picture:
            drawn.append({"column": data.columns[column], "svg": picture})
    return drawn


def history_charts(data: ReportData) -> dict[str, Any]:
    """Curves of the main measures over the runs, and what is said about them."""
    runs = runs_of(data.history)
    methods = [method.name for method in data.methods]
    wanted = [
        *(f"identity_{name}" for name in recognisers(data)),
        *(f"gap_{name}" for name in recognisers(data)),
        *("clip_text", "composition", "detected", "undisturbed"),
    ]
    charts = []
    for name in wanted:
        if name in data.columns:
            shown = data.candidates if name.startswith("identity_") else methods
            picture = curves_svg(runs, shown, hues(data), name, data.columns[name])
            if picture:
                charts.append({"column": data.columns[name], "svg": picture})
    others = {method for run in runs for method in run.found} - set(methods)
    protocols = [run.protocol for run in runs[-RUNS:]]
    return {
        "runs": len(runs),
        "shown": min(len(runs), RUNS),
        "charts": charts,
        "changes": sum(a != b for a, b in pairwise(protocols)),
        "others": sorted(others),
    }
