"""A configuration file and its overrides become one typed configuration, or one message with every problem.

The YAML is read twice: as a tree of nodes, which still knows line numbers and keys written twice, and as plain values,
which the overrides change and pydantic validates.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from ray_jobs.config import JobConfig
from ray_jobs.config_problems import at, dotted, explain, origin, short
from ray_jobs.config_types import Place

Config = TypeVar("Config", bound=JobConfig)


class ConfigError(ValueError):
    """Everything that is wrong with a configuration; `problems` holds one line for each."""

    def __init__(self, problems: Sequence[str]):
        self.problems = list(problems)
        count = "one problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            "\n".join([f"the configuration has {count}:", *(f"  - {problem}" for problem in self.problems)])
        )


def load(model: type[Config], path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read `path` (YAML), apply `overrides` ("data.min_face=64", values in YAML, list items by index) and validate.

    Args:
        model: which job's configuration it is.

    Raises ConfigError with all problems at once, each with the file and line or the override it comes from.
    """
    problems: list[str] = []
    values, lines = _read(Path(path), model, problems)
    applied: dict[Place, str] = {}
    for text in overrides:
        try:
            applied[_override(values, text, model.example)] = text
        except ValueError as error:
            problems.append(f"--set {text}: {error}")
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        problems += explain(error, model, str(path), lines, applied)
        raise ConfigError(problems) from None
    for place in _booleans_read_as_numbers(values, config.model_dump()):
        where = origin(place, str(path), lines, applied)
        problems.append(f"{where}: `{dotted(place)}` is a number, not yes or no; write null to switch a rule off")
    if problems:
        raise ConfigError(problems)
    return config


def resolved_yaml(config: JobConfig) -> str:
    """The configuration with every default written out; `load` of this text gives an equal configuration."""
    body = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=119)
    return f"# resolved configuration, hash {config_hash(config)}\n{body}"


def config_hash(config: JobConfig) -> str:
    """First 16 hex digits of the sha256 over `config.what_it_makes()` as canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(config.what_it_makes(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]


# Reading


def _read(path: Path, model: type[JobConfig], problems: list[str]) -> tuple[dict[str, Any], dict[Place, int]]:
    """The values of the file and the line of each key. What makes the file unreadable as a whole is raised."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file{_nearest_file(path)}"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read as a text file: {error}"]) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-99-99
        raise ConfigError([f"{path}: not valid YAML: {_one_line(error)}"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: nested too deeply"]) from None
    if root is None or values is None:
        raise ConfigError([f"{path}: the file is empty; {model.template} is a template"])
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: expected `section:` lines at the top, found a {type(values).__name__}"])
    lines: dict[Place, int] = {}
    for place, line, complaint in _keys(root, (), ()):
        lines.setdefault(place, line)
        if complaint:
            problems.append(f"{path}:{line}: {complaint}")
    if any("contains itself" in problem for problem in problems):
        raise ConfigError(problems)
    return _plain(values, (), str(path), lines, problems), lines


def _keys(node: yaml.Node, place: Place, above: tuple[int, ...]) -> Iterator[tuple[Place, int, str | None]]:
    """(place, line, complaint or None) of every key and list item under a YAML node."""
    if id(node) in above:
        yield place, node.start_mark.line + 1, f"`{dotted(place)}` contains itself"
        return
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*place, index), item.start_mark.line + 1, None
            yield from _keys(item, (*place, index), above)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Hashable, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            inner = (*place, key.value)
            first = seen.setdefault(key.value, line)
            yield inner, line, f"`{dotted(inner)}` is written twice (first in line {first})" if first != line else None
            yield from _keys(value, inner, above)


def _plain(value: Any, place: Place, file: str, lines: dict[Place, int], problems: list[str]) -> Any:
    """A copy without shared parts (YAML aliases), so that an override changes one place only."""
    if isinstance(value, dict):
        strange = [key for key in value if not isinstance(key, str)]
        for key in strange:
            where = at(file, (*place, str(key)), lines)
            problems.append(f"{where}: the key `{dotted((*place, str(key)))}` is not a name; put it in quotes")
        names = [key for key in value if isinstance(key, str)]
        return {key: _plain(value[key], (*place, key), file, lines, problems) for key in names}
    if isinstance(value, list):
        return [_plain(item, (*place, index), file, lines, problems) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{at(file, place, lines)}: `{dotted(place)}` is {value}, not a number to compute with")
        return 0.0
    return value


def _booleans_read_as_numbers(written: Any, validated: Any, place: Place = ()) -> Iterator[Place]:
    """`max_yaw: off` is False in YAML and 0 for pydantic: the strictest rule where the writer meant none."""
    if isinstance(written, dict):
        for key, value in written.items():
            yield from _booleans_read_as_numbers(value, validated[key], (*place, key))
    elif isinstance(written, list):
        for index, value in enumerate(written):
            yield from _booleans_read_as_numbers(value, validated[index], (*place, index))
    elif isinstance(written, bool) and not isinstance(validated, bool):
        yield place


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor the folder {path.parent})"
    names = sorted(file.name for file in path.parent.glob("*.y*ml"))
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f"; did you mean {path.parent / close[0]}?"
    return f"; the folder has {', '.join(names[:8])}" if names else ""


# Overrides


def _override(values: dict[str, Any], text: str, example: str) -> Place:
    """Apply one `a.b=value` to `values` in place and return where it went."""
    key, equals, written = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ValueError(f"write it as section.key=value, for example {example}")
    if not written.strip():
        raise ValueError("the value is empty; write null to switch off, '' for an empty text")
    try:
        value = yaml.safe_load(written)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"the value is not valid YAML ({_one_line(error)}); put it in quotes") from None
    complaints: list[str] = []
    value = _plain(value, tuple(names), "the value", {}, complaints)
    if complaints:
        raise ValueError("; ".join(complaints))

    place: Place = ()
    here: Any = values
    for depth, name in enumerate(names):
        step: Any = name
        if isinstance(here, list):
            if not name.isdecimal() or int(name) > len(here):
                last = f"0 to {len(here) - 1}, or {len(here)} to add one" if here else "0 to add the first"
                raise ValueError(f"`{dotted(place)}` is a list; name an item by its index ({last}), not `{name}`")
            step = int(name)
            if step == len(here):
                here.append(None)
        elif not isinstance(here, dict):
            raise ValueError(f"`{dotted(place)}` is {short(here)}, not a section with keys")
        place = (*place, step)
        if depth == len(names) - 1:
            here[step] = value
        else:
            below = here[step] if isinstance(here, list) else here.get(step)
            if below is None:
                below = here[step] = {}
            here = below
    return place


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace('in "<unicode string>", ', "").split())
