"""What is wrong with a configuration, in words: where it is written, what it is, and what was probably meant."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from ray_jobs.config_types import Place, Spot, all_places, description_of, keys_of, spot, tag_values

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")  # of a model, of a dataclass
_NO_SECTION = ("model_type", "dataclass_type")
_NO_MEMBER = ("union_tag_not_found", "union_tag_invalid")


def explain(
    error: ValidationError, root: type[BaseModel], path: str, lines: dict[Place, int], applied: dict[Place, str]
) -> list[str]:
    """One line for each problem. `lines`: the line of each key of the file; `applied`: overrides by their place."""
    found = [(details, _where(details, root)) for details in error.errors(include_url=False)]
    problems, meant = [], set()
    for details, where in found:
        if details["type"] in _UNKNOWN:
            advice, instead = _did_you_mean(where, root)
            meant.add(instead)
            problems.append((details, where, f"unknown key `{dotted(where.place)}`; {advice}"))
        else:
            problems.append((details, where, _in_words(details, where)))
    return [
        f"{origin(where.place, path, lines, applied)}: {sentence}"
        for details, where, sentence in problems
        # a required key that is only misspelt is one problem, not two
        if not (details["type"] == "missing" and where.place in meant)
    ]


def _where(details: Any, root: type[BaseModel]) -> Spot:
    """What is wrong with the choice among several kinds of section is wrong with the key that chooses."""
    where = spot(details["loc"], root)
    if details["type"] not in _NO_MEMBER:
        return where
    return replace(where, place=(*where.place, details["ctx"]["discriminator"].strip("'")))


def _in_words(details: Any, where: Spot) -> str:
    name = f"`{dotted(where.place)}`" if where.place else "the file"
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        about = description_of(where.section, str(where.place[-1])) if where.section else None
        return f"{name} is missing" + (f" ({about})" if about else "")
    if kind in _NO_MEMBER:
        known = context.get("expected_tags") or ", ".join(
            map(repr, tag_values(where.annotation, str(where.place[-1])))
        )
        said = f"is {context['tag']!r}" if "tag" in context else "is missing"
        return f"{name} {said}; it must be one of {known}"
    if kind in _NO_SECTION:
        return f"{name} must be a section with keys, not {short(details['input'])}"
    if details["loc"][-1:] == ("[key]",):
        name = f"the key {name}"
    message = details["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{name}: {message}"
    sentence = f"{name}: {message[0].lower()}{message[1:]}, got {short(details['input'])}"
    quotable = kind == "string_type" and not isinstance(details["input"], dict | list | None)
    return sentence + ("; put it in quotes" if quotable else "")


def _did_you_mean(where: Spot, root: type[BaseModel]) -> tuple[str, Place | None]:
    """Advice for an unknown key, and the place it probably meant."""
    key, section = str(where.place[-1]), where.place[:-1]
    known = list(keys_of(where.section)) if where.section else []
    close = difflib.get_close_matches(key.replace("-", "_"), known, n=1)
    if close:
        meant = (*section, close[0])
        return f"did you mean `{dotted(meant)}`?", meant
    elsewhere = {dotted(place): place for place in all_places(root)}
    if key in elsewhere:
        *above, last = key.split(".")
        return f"a dot does not nest in YAML: write `{last}:` under `{'.'.join(above)}:`", elsewhere[key]
    for place in elsewhere.values():
        if place[-1] == key and place != where.place:
            return f"did you mean `{dotted(place)}`?", None
    return f"the keys {f'of `{dotted(section)}`' if section else 'at the top'} are {', '.join(known)}", None


def origin(place: Place, path: str, lines: dict[Place, int], applied: dict[Place, str]) -> str:
    """The override that wrote this place, or the file and line."""
    for end in range(len(place), 0, -1):
        if place[:end] in applied:
            return f"--set {applied[place[:end]]}"
    below = [text for written, text in applied.items() if written[: len(place)] == place]
    if below and place and place not in lines:
        return f"--set {below[0]}"
    return at(path, place, lines)


def at(path: str, place: Place, lines: dict[Place, int]) -> str:
    """The file and line of a place, or of the section it should be in."""
    for end in range(len(place), 0, -1):
        if place[:end] in lines:
            return f"{path}:{lines[place[:end]]}"
    return path


def dotted(place: Place) -> str:
    """("data", "sources", 0, "path") -> "data.sources.0.path"."""
    return ".".join(str(step) for step in place)


def short(value: Any) -> str:
    """A value as it is shown in a message, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
