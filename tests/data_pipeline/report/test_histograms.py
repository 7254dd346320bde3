from __future__ import annotations

import re

import numpy as np
import pytest

from data_pipeline.report.histograms import BASE, LEFT, RIGHT, TOP, WIDTH, Threshold, histogram_svg
from data_pipeline.report.quantities import Scale


def draw(values: list[float], *, scale: Scale = "linear", thresholds: tuple[Threshold, ...] = ()) -> str:
    return str(histogram_svg(np.array(values), np.array([]), title="t", axis="x", scale=scale, thresholds=thresholds))


def counted(svg: str) -> tuple[int, int]:
    """Accepted and rejected values over all bins."""
    pairs = re.findall(r"<title>[^<]*: ([\d,]+) accepted, ([\d,]+) rejected</title>", svg)
    return sum(int(pair[0]) for pair in pairs), sum(int(pair[1]) for pair in pairs)


def threshold_lines(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'<line class="threshold" x1="([\d.]+)"', svg)]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_every_value_is_counted_once(scale: Scale) -> None:
    rng = np.random.default_rng(0)
    accepted, rejected = rng.lognormal(size=1000), np.concatenate([rng.lognormal(size=300), [np.nan, np.inf]])
    svg = str(histogram_svg(accepted, rejected, title="t", axis="x", scale=scale))
    assert counted(svg) == (1000, 300)
    assert "1,000 accepted and 300 rejected images" in svg


def test_bars_stay_inside_the_drawing() -> None:
    rng = np.random.default_rng(1)
    svg = str(histogram_svg(rng.normal(size=500), rng.normal(2, 1, 100), title="t", axis="x"))
    bars = re.findall(
        r'<rect class="(?:accepted|rejected)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg
    )
    assert len(bars) > 20
    for x, y, width, height in (map(float, bar) for bar in bars):
        assert LEFT - 0.1 <= x <= x + width <= WIDTH - RIGHT + 0.1
        assert TOP - 0.1 <= y <= y + height <= BASE + 0.1


def test_threshold_stands_where_its_value_is() -> None:
    svg = draw([0.0, 1.0], thresholds=(Threshold(0.5, "half", "below"),))
    (x,) = threshold_lines(svg)
    assert x == pytest.approx((LEFT + WIDTH - RIGHT) / 2, abs=0.2)
    assert ">half</text>" in svg


def test_threshold_outside_the_data_is_in_view() -> None:
    (x,) = threshold_lines(draw([0.8, 0.9], thresholds=(Threshold(0.2, "low", "below"),)))
    assert LEFT + 5 < x < WIDTH - RIGHT


def test_threshold_in_both_directions_draws_two_lines() -> None:
    left, right = threshold_lines(draw([-20.0, 30.0], thresholds=(Threshold(60, "±60", "beyond"),)))
    assert left - LEFT == pytest.approx(WIDTH - RIGHT - right, abs=0.2)


def test_whole_numbers_are_divided_as_the_rules_divide_them() -> None:
    svg = draw(
        [9, 10, 17, 18], scale="whole", thresholds=(Threshold(10, "min", "below"), Threshold(17, "max", "above"))
    )
    low, high = threshold_lines(svg)
    titles = re.findall(r"<title>(\d+): ([01]) accepted.*?</title><rect class=\"hit\" x=\"([\d.]+)\"", svg)
    start = {int(number): float(x) for number, _, x in titles}
    assert [int(number) for number, count, _ in titles if count == "1"] == [9, 10, 17, 18]
    assert low == pytest.approx(start[10], abs=0.2)
    assert high == pytest.approx(start[18], abs=0.2)


def test_logarithmic_axis_takes_zero_and_keeps_decades_even() -> None:
    svg = draw([0.0, 1.0, 10.0, 100.0, 1000.0], scale="log")
    ticks = {text: float(x) for x, text in re.findall(r'<text class="tick" x="([\d.]+)" y="181"[^>]*>([\d,]+)<', svg)}
    assert ticks["100"] - ticks["10"] == pytest.approx(ticks["1,000"] - ticks["100"], abs=0.3)
    assert counted(svg) == (5, 0)


@pytest.mark.parametrize("values", [[0.5], [0.0], [-3.0, -3.0], [1e6, 1e6], [7e-6, 8e-6]])
@pytest.mark.parametrize("scale", ["linear", "log", "whole"])
def test_odd_data_is_drawn(values: list[float], scale: Scale) -> None:
    svg = draw(values, scale=scale)
    assert counted(svg) == (len(values), 0)
    assert "nan" not in svg
    assert "inf" not in svg


def test_nothing_measured_draws_nothing() -> None:
    assert histogram_svg(np.array([np.nan]), np.array([]), title="t", axis="x") == ""


def test_labels_are_escaped() -> None:
    svg = histogram_svg(
        np.array([1.0, 2.0]), np.array([]), title="<t>", axis='"<x>', thresholds=(Threshold(1.5, "<l>", "above"),)
    )
    assert "<t>" not in svg
    assert "<x>" not in svg
    assert "<l>" not in svg
    assert "&lt;x&gt;" in svg
