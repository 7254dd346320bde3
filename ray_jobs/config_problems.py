"""What is wrong with a configuration, in words: where it is written, what it is, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

Place = tuple[str | int, ...]  # ("data", "sources", 0, "path")


@dataclass(frozen=True)
class _Spot:
    """Where a validation error is: its place in the file and the models that could stand around it."""

    place: Place
    models: tuple[type[BaseModel], ...]  # the models whose field the last step of `place` is (or should be)


def explain(
    error: ValidationError, root: type[BaseModel], path: str, lines: dict[Place, int], applied: dict[Place, str]
) -> list[str]:
    """One line for each problem. `lines`: the line of each key of the file; `applied`: overrides by their place."""
    found = [(details, _spot(details["loc"], root)) for details in error.errors(include_url=False)]
    problems, meant = [], set()
    for details, spot in found:
        if details["type"] == "extra_forbidden":
            advice, instead = _did_you_mean(spot, root)
            meant.add(instead)
            problems.append((details, spot, f"unknown key `{dotted(spot.place)}`; {advice}"))
        else:
            problems.append((details, spot, _in_words(details, spot)))
    return [
        f"{origin(spot.place, path, lines, applied)}: {sentence}"
        for details, spot, sentence in problems
        # a required key that is only misspelt is one problem, not two
        if not (details["type"] == "missing" and spot.place in meant)
    ]


def _in_words(details: Any, spot: _Spot) -> str:
    name = f"`{dotted(spot.place)}`" if spot.place else "the file"
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        field = spot.models[0].model_fields.get(str(spot.place[-1])) if spot.models else None
        return f"{name} is missing" + (f" ({field.description})" if field and field.description else "")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        chooser = str(context["discriminator"]).strip("'")
        known = context.get("expected_tags") or ", ".join(f"'{tag}'" for tag in _tags(spot, chooser))
        said = f"is {context['tag']!r}" if "tag" in context else "is missing"
        return f"`{dotted((*spot.place, chooser))}` {said}; it must be one of {known}"
    if kind == "model_type":
        return f"{name} must be a section with keys, not {short(details['input'])}"
    message = details["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{name}: {message}"
    sentence = f"{name}: {message[0].lower()}{message[1:]}, got {short(details['input'])}"
    quotable = kind == "string_type" and not isinstance(details["input"], dict | list | None)
    return sentence + ("; put it in quotes" if quotable else "")


def _did_you_mean(spot: _Spot, root: type[BaseModel]) -> tuple[str, Place | None]:
    """Advice for an unknown key, and the place it probably meant."""
    key, section = str(spot.place[-1]), spot.place[:-1]
    known = [name for model in spot.models for name in model.model_fields]
    close = difflib.get_close_matches(key.replace("-", "_"), known, n=1)
    if close:
        meant = (*section, close[0])
        return f"did you mean `{dotted(meant)}`?", meant
    elsewhere = {dotted(place): place for place in _all_places(root, ())}
    if key in elsewhere:
        *above, last = key.split(".")
        return f"a dot does not nest in YAML: write `{last}:` under `{'.'.join(above)}:`", elsewhere[key]
    for place in elsewhere.values():
        if place[-1] == key and place != spot.place:
            return f"did you mean `{dotted(place)}`?", None
    return f"the keys {f'of `{dotted(section)}`' if section else 'at the top'} are {', '.join(known)}", None


def _spot(location: tuple[str | int, ...], root: type[BaseModel]) -> _Spot:
    """Follow pydantic's location down the models; the tag of a union is a step in it, but not in the file."""
    place: Place = ()
    around: tuple[type[BaseModel], ...] = ()
    here: Any = root
    for step in location:
        models = tuple(_models(here))
        chosen = tuple(model for model in models if step in _literals(model)) if len(models) > 1 else ()
        if chosen:
            here = chosen[0]
            continue
        place, around = (*place, step), models
        fields = [model.model_fields[str(step)].annotation for model in models if str(step) in model.model_fields]
        here = fields[0] if fields and isinstance(step, str) else here if isinstance(step, int) else None
    return _Spot(place, around)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation such as `list[A]`, `A | None`, `Annotated[A | B, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for inner in get_args(annotation):
            yield from _models(inner)


def _literals(model: type[BaseModel]) -> set[Any]:
    fields = model.model_fields.values()
    return {
        value for field in fields if get_origin(field.annotation) is Literal for value in get_args(field.annotation)
    }


def _tags(spot: _Spot, chooser: str) -> list[str]:
    field = spot.models[0].model_fields[str(spot.place[-1])] if spot.models else None
    members = _models(field.annotation) if field else ()
    return [tag for model in members for tag in get_args(model.model_fields[chooser].annotation)]


def _all_places(model: type[BaseModel], place: Place) -> Iterator[Place]:
    for name, field in model.model_fields.items():
        yield (*place, name)
        for inner in _models(field.annotation):
            if get_origin(field.annotation) is not list:
                yield from _all_places(inner, (*place, name))


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
