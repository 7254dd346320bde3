"""The file of words that compositions are drawn from.

A composition is one phrase of the `core`, then each of the `extras` with a probability of its own:

    lists:                      # words that patterns share, as <hats>
      hats: [a hat, a crown]
    core:                       # one pattern is drawn, each equally likely, then one of its phrases
      dress: {patterns: ["(wearing|with) <hats>"]}
      drinks: {patterns: [...], not_for: [girl, boy]}
    extras:                     # in this order; `most` of them at once, `between` them; skipped after the core `unless`
      place: {probability: 0.5, choices: ["on the (beach|moon)"], text: " {}", unless: [places]}
      style: {probability: 0.25, choices: [...], text: ", in {} style", most: 2, between: " and "}
    templates:                  # see templates.py; may be left out
      entries: ["a photo of a {}"]

In patterns, choices and lists, (a|b) stands for one of several, and <list> too, but for inside of lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from adaface.distill.compositions import SUBJECT, Compositions, Core, Extra
from adaface.distill.templates import TAKEN, Templates

PERSON_TYPES = ("girl", "boy", "young woman", "young man", "woman", "man", "person")
_PIECE = re.compile(r"\((?P<group>[^()<>]*)\)|<(?P<list>\w+)>|(?P<plain>[^()<>|]+)")
_CORE_KEYS = {"patterns", "not_for"}
_EXTRA_KEYS = {"probability", "choices", "text", "most", "between", "unless"}


def expand(pattern: str, lists: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """All phrases of a pattern, e.g. of "(on|under) <places>". Raises ValueError for one that cannot be read."""
    parts: list[Sequence[str]] = []
    end = 0
    for piece in _PIECE.finditer(pattern):
        if piece.start() != end:
            break
        end = piece.end()
        if piece["list"] is None:
            parts.append([piece["plain"]] if piece["group"] is None else piece["group"].split("|"))
        elif piece["list"] in lists:
            parts.append(lists[piece["list"]])
        else:
            raise ValueError(f"{pattern!r}: there is no list <{piece['list']}>")
    if end != len(pattern) or not pattern.strip():
        raise ValueError(f"{pattern!r}: cannot be read from {pattern[end:]!r} on; (a|b) and <list> do not nest")
    return tuple(" ".join("".join(chosen).split()) for chosen in product(*parts))


@cache
def read_compositions(path: Path) -> Compositions:
    """See `Compositions.load`."""
    import yaml  # comes with transformers

    if not path.is_file():
        raise FileNotFoundError(f"there is no file of compositions {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file: {error}") from error
    problems: list[str] = []
    found = _read(values, problems)
    if problems or found is None:
        raise ValueError(f"{path}: " + "; ".join(problems))
    return found


def _read(values: Any, problems: list[str]) -> Compositions | None:
    sections = {"lists", "core", "extras", "templates"}
    if not isinstance(values, dict) or not values.get("core"):
        problems.append("a file of compositions has the sections core, extras, and if need be lists and templates")
        return None
    problems += [
        f"unknown section {name!r}; known are {', '.join(sorted(sections))}" for name in values if name not in sections
    ]
    if not isinstance(values.get("lists") or {}, dict):
        problems.append("lists must map names to lists of texts")
        return None
    lists = {
        name: _phrases(f"lists.{name}", words, {}, problems) for name, words in (values.get("lists") or {}).items()
    }
    core = []
    for name, entry in _entries("core", values["core"], _CORE_KEYS, problems):
        where = f"core.{name}"
        lines = _words(where, entry.get("patterns"), problems)
        patterns = tuple(_phrases(where, [line], lists, problems) for line in lines)
        not_for = frozenset(entry.get("not_for") or ())
        if unknown := sorted(not_for - set(PERSON_TYPES)):
            problems.append(f"{where}: not_for names {', '.join(unknown)}; known are {', '.join(PERSON_TYPES)}")
        core.append(Core(name, patterns, not_for))
    names = {kind.name for kind in core}
    extras = []
    for name, entry in _entries("extras", values.get("extras") or {}, _EXTRA_KEYS, problems):
        where = f"extras.{name}"
        choices = _phrases(where, entry.get("choices"), lists, problems)
        extra = Extra(name, **{"probability": 0.25, "text": ", {}", **entry, "choices": choices})
        extra = replace(extra, unless=frozenset(extra.unless))
        problems += _extra_problems(where, extra, names)
        extras.append(extra)
    try:
        templates = Templates.of(values.get("templates") or {})
    except (ValueError, TypeError) as error:
        problems.append(str(error))
        templates = Templates()
    found = Compositions(tuple(core), tuple(extras), templates)
    problems += _problems_of_phrases(found)
    return found


def _problems_of_phrases(found: Compositions) -> list[str]:
    problems = []
    if lone := [phrase for phrase in found.phrases() if TAKEN.search(phrase)]:
        problems.append(f"y and z alone stand for people and backgrounds; use other words in {', '.join(lone[:5])}")
    without = [person for person in PERSON_TYPES if all(person in kind.not_for for kind in found.core)]
    if found.core and without:
        problems.append(f"core has nothing for {', '.join(without)}: not_for names them everywhere")
    return problems


def _extra_problems(where: str, extra: Extra, cores: set[str]) -> list[str]:
    problems = []
    if not (isinstance(extra.probability, int | float) and 0 <= extra.probability <= 1):
        problems.append(f"{where}: probability must lie in 0..1, not {extra.probability!r}")
    texts = all(isinstance(text, str) for text in (extra.text, extra.between))
    if not texts or extra.text.count(SUBJECT) != 1:
        problems.append(
            f"{where}: text must have {SUBJECT} once and between be a text, not {extra.text!r} and {extra.between!r}"
        )
    if not (isinstance(extra.most, int) and 1 <= extra.most <= max(1, len(extra.choices))):
        problems.append(
            f"{where}: most must lie in 1..{len(extra.choices)}, the number of choices, not {extra.most!r}"
        )
    if unknown := sorted(extra.unless - cores):
        problems.append(f"{where}: unless names {', '.join(unknown)}; in core there are {', '.join(sorted(cores))}")
    return problems


def _entries(where: str, section: Any, keys: set[str], problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(section, dict):
        problems.append(f"{where} must map names to entries")
        return []
    found = []
    for name, entry in section.items():
        if not isinstance(entry, dict):
            problems.append(f"{where}.{name} must map {', '.join(sorted(keys))} to values")
        elif unknown := sorted(set(entry) - keys):
            problems.append(f"{where}.{name} has {', '.join(unknown)}; known are {', '.join(sorted(keys))}")
        else:
            found.append((str(name), entry))
    return found


def _words(where: str, words: Any, problems: list[str]) -> list[str]:
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        problems.append(f"{where} must be a list of texts; put words such as `on` or 1920 in quotes")
        return []
    return words


def _phrases(where: str, lines: Any, lists: Mapping[str, Sequence[str]], problems: list[str]) -> tuple[str, ...]:
    """Those of all lines."""
    found: list[str] = []
    for line in _words(where, lines, problems):
        try:
            found += expand(line, lists)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    return tuple(found)
