"""What the configuration of a base model says of its text encoder, where the model lies in a folder of this machine."""

from __future__ import annotations

import json
from pathlib import Path


def text_sizes(folder: Path) -> dict[str, int]:
    """The whole numbers in text_encoder/config.json of a base's folder, such as `hidden_size`; none without that file."""
    try:
        values = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, int) and not isinstance(value, bool)}
