"""How counts, sizes, shares and paths are written on the page."""

from __future__ import annotations

import re

from markupsafe import Markup, escape


def with_code(text: str) -> Markup:
    """Escaped text with `names` in back quotes set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def write_count(value: int) -> str:
    return f"{value:,}"


def write_bytes(value: int) -> str:
    """Bytes in decimal units, as disks are sold: 23.4 MB."""
    size = float(value)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def write_percent(share: float) -> str:
    """A share of 0..1; what is neither none nor all is never rounded to it."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%" if 0 < share < 1 else f"{100 * share:.0f}%"


def without_credentials(text: str) -> str:
    """Text with the user part of URIs and secret query values taken out, since reports are passed around."""
    text = re.sub(r"(://)[^/@\s'\"]+@", r"\1***@", text)
    return re.sub(
        r"(?i)([?&][^=&\s]*(?:secret|token|password|access_key|signature)[^=&\s]*=)[^&\s'\"]+", r"\1***", text
    )
