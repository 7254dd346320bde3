"""Checks that the settings of this package share: all problems of one of them in one error."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import isfinite
from typing import Any


def raise_for(what: str, *problems: Iterable[str]) -> None:
    """Raises ValueError with all problems, if there are any."""
    if found := list(chain(*problems)):
        raise ValueError(f"wrong settings of {what}: " + "; ".join(found))


def lists_to_tuples(settings: Any, *names: str) -> None:
    """What JSON and YAML give as lists becomes tuples, in a frozen dataclass."""
    for name in names:
        if isinstance(value := getattr(settings, name), list):
            object.__setattr__(settings, name, tuple(value))


def share_problems(settings: Any, *names: str) -> list[str]:
    """Of values that must lie in 0..1."""
    return [
        f"{name} must lie in 0..1, not {value!r}"
        for name in names
        if not (_number(value := getattr(settings, name)) and 0 <= value <= 1)
    ]


def range_problems(settings: Any, *names: str) -> list[str]:
    """Of (low, high) with 0 <= low <= high."""
    return [
        f"{name} must be (low, high) with 0 <= low <= high, not {value!r}"
        for name in names
        if not (_numbers(value := getattr(settings, name), 2) and 0 <= value[0] <= value[1])
    ]


def count_problems(settings: Any, least: int, *names: str) -> list[str]:
    """Of whole numbers from `least` on."""
    return [
        f"{name} must be a whole number, {least} or more, not {value!r}"
        for name in names
        if not (isinstance(value := getattr(settings, name), int) and not isinstance(value, bool) and value >= least)
    ]


def positive_problems(settings: Any, *names: str) -> list[str]:
    """Of numbers above 0; infinity counts."""
    return [
        f"{name} must be a number above 0, not {value!r}"
        for name in names
        if not (isinstance(value := getattr(settings, name), int | float) and value > 0)
    ]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, tuple) and len(value) == count and all(map(_number, value))
