"""A folder with template, style and script, and what is to be shown -> one page that needs no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASE_STYLE = Path(__file__).parent / "base.css"


def render_page(folder: Path, filters: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """`template.html.j2` with the names of `content`, and with `style`, `script` and `policy`, which lets the page run
    and load nothing else.

    The style is `base.css` of this package and then the folder's `report.css`; the script is its `report.js`. Texts are
    escaped. Raises ModuleNotFoundError where jinja2 is not installed.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    style = BASE_STYLE.read_text("utf-8") + (folder / "report.css").read_text("utf-8")
    script = (folder / "report.js").read_text("utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("template.html.j2").render(
        style=Markup(style), script=Markup(script), policy=policy, **content
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
