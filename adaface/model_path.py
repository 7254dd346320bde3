"""Where a model lies: a path, or `package://PACKAGE/PATH` for what is shipped inside an installed Python package.

A configuration that names a shipped model so works from any folder and on every machine that has the package:
`package://adaface.miniature/weights/pack`.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from adaface.shipped_files import require_shipped

PREFIX = "package://"
_DOWNLOADS = "models"  # the folder where `adaface models` says that downloads go
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)+")


def model_path(name: str | Path, *, verify: bool = True) -> Path:
    """The local path of a model file or folder; whether an ordinary one exists is not looked at.

    Raises ValueError for a package that is not installed, for a path that leaves it, and (`verify`) for shipped files
    that are missing or other than their package's manifest says.
    """
    text = str(name)
    if not text.startswith(PREFIX):
        return Path(text).expanduser()
    package, _, inside = text[len(PREFIX) :].partition("/")
    folder = _package_folder(package)
    if folder is None:
        raise ValueError(
            f"{text}: there is no Python package {package!r} here; write {PREFIX}PACKAGE/PATH, "
            "for example package://adaface.miniature/weights/pack"
        )
    if not inside or ".." in Path(inside).parts or inside.startswith("/"):
        raise ValueError(f"{text}: name a file or folder inside the package")
    if verify:
        require_shipped(folder / inside, folder)
    return folder / inside


def may_be_on_the_hub(name: str, slashes: int = 1) -> bool:
    """Whether a name, of which there is no such path, may be OWNER/NAME of the Hugging Face hub.

    It is a path that is missing where its first part is a folder here, or `models`.

    Args:
        slashes: at most so many; more than one for what lies in a repository.
    """
    owner = name.partition("/")[0]
    is_name = _HUB_NAME.fullmatch(name) and name[0] != "." and name.count("/") <= slashes
    return bool(is_name) and owner != _DOWNLOADS and not Path(owner).is_dir()


def path_or_hub_name(name: str) -> str:
    """The local path of a model, or its name where it may be one of the hub.

    Raises FileNotFoundError for what can be neither, ValueError as `model_path`.
    """
    path = model_path(name)
    if path.exists():
        return str(path)
    if not may_be_on_the_hub(name):
        raise FileNotFoundError(f"{name}: there is no such folder")
    return name


def _package_folder(package: str) -> Path | None:
    """Where a package such as `adaface.miniature` lies; None where there is none.

    Nothing of it is imported: such names stand in files that others wrote, and looking a sub-package up by the import
    system would run the packages around it.
    """
    first, *inner = package.split(".")
    if not all(part.isidentifier() for part in (first, *inner)):
        return None
    try:
        found = importlib.util.find_spec(first)
    except ValueError:  # of a module without a specification, such as __main__
        return None
    for place in (found and found.submodule_search_locations) or ():
        folder = Path(place, *inner)
        if folder.is_dir():
            return folder
    return None
