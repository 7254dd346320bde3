"""Charts: what is drawn lies where the numbers say, names stay apart, nothing is drawn of nothing."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from adaface.evaluation.report import ReportData
from adaface.evaluation.report.bars import bars_svg
from adaface.evaluation.report.curves import curves_svg, runs_of
from adaface.evaluation.report.data import Column
from adaface.evaluation.report.drawing import Axis, axis_for, hues
from adaface.evaluation.report.estimates import Estimate, estimate
from adaface.evaluation.report.strips import strip_svg
from adaface.evaluation.report.tradeoff import GLYPH, HEIGHT, WIDTH, Point, tradeoff_svg
from tests.adaface.evaluation.report.html_page import Page

GAP = Column("Identity gap", "", "higher", "identity")
TEXT = Column("Text <alignment>", "", "higher", "text")
SHARE = Column("Face found", "", "higher", "identity", share=True)
NAN = float("nan")


def known(mean: float, reach: float = 0.02) -> Estimate:
    return Estimate(mean, mean - reach, mean + reach, 9, 100)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.2, 0.3, ["0.2", "0.22", "0.24", "0.26", "0.28", "0.3"]),
        (-0.12, 0.5, ["0", "0.2", "0.4"]),
        (0.19, 0.29, ["0.2", "0.22", "0.24", "0.26", "0.28"]),
    ],
)
def test_ticks_are_round_and_written_in_full(low: float, high: float, ticks: list[str]) -> None:
    axis = Axis(low, high, 0, 100)
    assert [axis.write(tick) for tick in axis.ticks()] == ticks


def test_ticks_of_shares() -> None:
    assert [Axis.write(tick, True) for tick in (0.0, -0.0, 0.25, 1.0, -0.5)] == ["0%", "0%", "25%", "100%", "−50%"]


def test_axis_holds_what_is_asked_for() -> None:
    axis = axis_for([0.4, 0.6, NAN], 0, 100, zero=True)
    assert axis.low == 0 and axis.high > 0.6
    assert axis_for([0.4], 0, 100, unit=True).at(1.0) == 100
    assert axis_for([-0.5, 1.4], 0, 100, unit=True).low < -0.5
    assert axis_for([], 0, 100).at(0.5) == 50
    flat = axis_for([0.3, 0.3], 0, 100)
    assert flat.low < 0.3 < flat.high


def test_methods_have_a_colour_each(run: ReportData) -> None:
    assert hues(run) == {"class-word": "base", "teacher": "teach", "adaface": "c0"}


def test_a_strip_has_a_mark_and_an_interval_per_known_method() -> None:
    found = {"a": known(0.2), "b": Estimate(0.4, NAN, NAN, 1), "c": estimate(None)}
    drawing = strip_svg(found, {"a": "base", "b": "c0", "c": "c1"}, GAP, ceiling=0.7)
    assert drawing.count('class="mark"') == 2
    assert drawing.count('class="whisker"') == 1
    assert drawing.count('class="ceiling"') == 1
    assert "<title>a: 0.200 (0.180–0.220)</title>" in drawing
    assert "<title>b: 0.400</title>" in drawing
    assert strip_svg({"c": estimate(None)}, {"c": "c1"}, GAP) == ""


def test_a_higher_value_lies_to_the_right() -> None:
    drawing = strip_svg({"a": known(0.2), "b": known(0.4)}, {"a": "c0", "b": "c1"}, TEXT)
    low, high = (float(x) for x in re.findall(r'cx="([\d.]+)"', drawing))
    assert low < high


def test_tradeoff_names_do_not_cover_each_other() -> None:
    points = [Point(f"adaface-step-{i}", "c0", known(0.25 + 0.002 * i), known(0.5 + 0.004 * i)) for i in range(6)]
    drawing = tradeoff_svg(points, TEXT, GAP)
    boxes = []
    for x, y, anchor, name in re.findall(
        r'<text class="name" x="([\d.-]+)" y="([\d.-]+)" text-anchor="(\w+)">([^<]+)', drawing
    ):
        left = float(x) if anchor == "start" else float(x) - GLYPH * len(name)
        assert left >= 0 and left + GLYPH * len(name) <= WIDTH + 1 and 0 < float(y) < HEIGHT
        boxes.append((left, float(y) - 11, left + GLYPH * len(name), float(y)))
    assert len(boxes) == 6
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_tradeoff_with_trail_and_without_values() -> None:
    point = Point("a <b>", "c0", known(0.25), known(0.5), trail=((0.26, 0.3), (0.255, 0.4)))
    drawing = tradeoff_svg([point, Point("unknown", "c1", estimate(None), known(0.1))], TEXT, GAP)
    assert drawing.count('class="past"') == 2
    assert "a &lt;b&gt;" in drawing and "Text &lt;alignment&gt;" in drawing
    assert "unknown" not in drawing
    assert Page(drawing).problems == []
    assert tradeoff_svg([], TEXT, GAP) == ""


def test_bars_grow_from_zero_in_either_direction() -> None:
    groups = [("place", {"a": known(0.5), "b": known(-0.1)}), ("empty", {"a": estimate(None)})]
    drawing = bars_svg(groups, {"a": "c0", "b": "c1"}, GAP)
    (x0, w0), (x1, w1) = (
        (float(x), float(w)) for x, w in re.findall(r'class="bar" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawing)
    )
    assert x1 + w1 == pytest.approx(x0, abs=0.11)
    assert w0 == pytest.approx(5 * w1, rel=0.02)
    assert "empty" not in drawing
    assert bars_svg([("empty", {"a": estimate(None)})], {"a": "c0"}, GAP) == ""


def history(protocols: str, gaps: list[float | None]) -> list[dict]:
    return [
        {
            "run": f"run-{i}",
            "finished": f"2026-11-{10 + i}T00:00:00+00:00",
            "protocol_hash": protocol,
            "method": "adaface",
            "method_hash": "h",
            "column": "gap_pack",
            "mean": gap,
            "low": None if gap is None else gap - 0.02,
            "high": None if gap is None else gap + 0.02,
        }
        for i, (protocol, gap) in enumerate(zip(protocols, gaps, strict=True))
    ]


def test_runs_come_in_the_order_of_time_whatever_the_rows() -> None:
    rows = history("aabb", [0.1, 0.2, 0.3, 0.4])
    assert runs_of(rows[::-1]) == runs_of(rows)
    assert [run.name for run in runs_of(rows)] == ["run-0", "run-1", "run-2", "run-3"]


def test_curves_break_where_the_protocol_changed_and_nothing_was_measured() -> None:
    runs = runs_of(history("aabbb", [0.1, 0.2, 0.3, None, 0.4]))
    drawing = curves_svg(runs, ["adaface", "other"], {"adaface": "c0", "other": "c1"}, "gap_pack", GAP)
    assert drawing.count('class="change"') == 1
    lines = re.findall(r'class="curve" points="([^"]+)"', drawing)
    assert [len(line.split()) for line in lines] == [2, 2]
    assert "23 Nov" not in drawing and "10 Nov" in drawing and "14 Nov" in drawing
    assert "other" not in drawing


def test_nan_of_parquet_is_no_value() -> None:
    rows = history("aa", [0.1, 0.2])
    rows[1] |= {"mean": NAN, "low": NAN, "high": NAN}
    assert curves_svg(runs_of(rows), ["adaface"], {"adaface": "c0"}, "gap_pack", GAP) == ""


def test_many_runs_are_cut_to_the_last() -> None:
    rows = [
        row | {"run": f"r{i:03d}", "finished": f"t{i:03d}"} for i in range(90) for row in history("a", [0.1 + i / 100])
    ]
    drawing = curves_svg(runs_of(rows), ["adaface"], {"adaface": "c0"}, "gap_pack", GAP)
    assert drawing.count('class="mark"') == 40
    assert "r049" not in drawing and "r089" in drawing
    assert "nan" not in drawing
