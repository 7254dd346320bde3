"""How numbers, intervals, times and paths are written on the page."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from adaface.evaluation.report.estimates import Estimate

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
UNKNOWN = DASH


def write(value: float, share: bool = False, decimals: int = 3) -> str:
    """0.618, −0.021 or 62.5%; a dash for nan. Only what is all or nothing is written as 100% or 0%."""
    if not math.isfinite(value):
        return UNKNOWN
    if share and value in (0, 1):
        return f"{100 * value:.0f}%"
    if share:
        return f"{_number(100 * value, 1 if abs(value) < 9.995 else 0)}%"
    return _number(value, decimals)


def write_range(found: Estimate, share: bool = False, decimals: int = 3) -> str:
    """0.601–0.633, and `to` between numbers with signs; "" without an interval."""
    if not found.bounded:
        return ""
    low, high = write(found.low, share, decimals), write(found.high, share, decimals)
    if share:
        low = low.removesuffix("%")
    return f"{low} to {high}" if MINUS in low + high else f"{low}{DASH}{high}"


def write_with_range(found: Estimate, share: bool = False, decimals: int = 3) -> str:
    """0.618 (0.601–0.633)."""
    span = write_range(found, share, decimals)
    return write(found.mean, share, decimals) + (f" ({span})" if span and found.known else "")


def write_count(value: int, noun: str = "", plural: str = "") -> str:
    """1,200 pictures."""
    if not noun:
        return f"{value:,}"
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def write_percent(share: float) -> str:
    """A share of 0..1; what is neither none nor all is never rounded to it."""
    if not math.isfinite(share):
        return UNKNOWN
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%" if 0 < share < 1 else f"{100 * share:.0f}%"


def write_time(text: str) -> str:
    """An ISO time as 2026-11-23 08:33 UTC; other texts as they are."""
    moment = _moment(text)
    return text if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def write_day(text: str) -> str:
    """The day of an ISO time, as 23 Nov; other texts cut to 10 characters."""
    moment = _moment(text)
    return text[:10] if moment is None else f"{moment.day} {_MONTHS[moment.month - 1]}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment


def without_credentials(text: str) -> str:
    """Text with the user part of URIs and secret query values taken out, since reports are passed around."""
    text = re.sub(r"(://)[^/@\s'\"]+@", r"\1***@", text)
    return re.sub(
        r"(?i)([?&][^=&\s]*(?:secret|token|password|access_key|signature)[^=&\s]*=)[^&\s'\"]+", r"\1***", text
    )


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters, cut at the end."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _number(value: float, decimals: int) -> str:
    # adding 0.0 turns a rounded -0.0 into 0.0
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", MINUS)
