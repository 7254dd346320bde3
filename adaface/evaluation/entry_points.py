"""Models and methods of one's own, named in a configuration as "package.module:callable"."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import Any


def open_entry_point(name: str, settings: Mapping[str, Any]) -> Any:
    """Call what `name` ("package.module:callable") stands for with the settings; returns what it returns.

    Raises ValueError as `find_entry_point`, and for settings that it refuses; what the callable itself raises is passed
    on.
    """
    return _call(name, find_entry_point(name), settings)


def find_entry_point(name: str) -> Any:
    """What `name` ("package.module:callable") stands for; its module is imported, and nothing is called.

    Raises ValueError for a name of another form, for a module or a callable that is not there, and for a module that
    cannot be imported.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"an entry point is written `package.module:callable`, not {name!r}")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"entry point {name}: there is no module {error.name} here; is its package installed?"
        ) from error
    except Exception as error:  # what the lines of somebody else's module raise can be anything
        raise ValueError(
            f"entry point {name}: {module_name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"entry point {name}: {module_name} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"entry point {name} is a {type(found).__name__}, which cannot be called")
    return found


def with_offered(function: Any, settings: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """`settings`, and of what is `offered` that which `function` has a parameter for and no setting is given for."""
    parameters = signature(function).parameters
    return {**{name: value for name, value in offered.items() if name in parameters}, **settings}


def _call(name: str, function: Any, settings: Mapping[str, Any]) -> Any:
    try:
        signature(function).bind(**settings)
    except TypeError as error:
        raise ValueError(f"entry point {name} does not take these settings: {error}") from error
    return function(**settings)
