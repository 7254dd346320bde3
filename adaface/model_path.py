"""Where a model lies: a path, or `package://PACKAGE/PATH` for what is shipped inside an installed Python package.

A configuration that names a shipped model so works from any folder and on every machine that has the package:
`package://adaface.miniature/weights/pack`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from adaface.shipped_files import require_shipped

PREFIX = "package://"


def model_path(name: str | Path, *, verify: bool = True) -> Path:
    """The local path of a model file or folder; whether an ordinary one exists is not looked at.

    Raises ValueError for a package that is not installed, for a path that leaves it, and (`verify`) for shipped files
    that are missing or other than their package's manifest says.
    """
    text = str(name)
    if not text.startswith(PREFIX):
        return Path(text).expanduser()
    package, _, inside = text[len(PREFIX) :].partition("/")
    try:
        found = importlib.util.find_spec(package) if package else None
    except (ModuleNotFoundError, ValueError):  # of a parent package; of a name such as "a..b"
        found = None
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            f"{text}: there is no Python package {package!r} here; write {PREFIX}PACKAGE/PATH, "
            "for example package://adaface.miniature/weights/pack"
        )
    if not inside or ".." in Path(inside).parts or inside.startswith("/"):
        raise ValueError(f"{text}: name a file or folder inside the package")
    folder = Path(next(iter(found.submodule_search_locations)))
    if verify:
        require_shipped(folder / inside, folder)
    return folder / inside
