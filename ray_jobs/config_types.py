"""The types behind a configuration: what keys a section has, and where the steps of an error's location lead.

A section is a pydantic model or a dataclass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Tag

Place = tuple[str | int, ...]  # ("data", "sources", 0, "path")


@dataclasses.dataclass(frozen=True)
class Spot:
    """A place in the file.

    Attributes:
        section: the type that has, or should have, the last step as a key; None: a list or mapping, or the whole file.
        annotation: of what stands there; None: not known.
    """

    place: Place
    section: type | None
    annotation: Any


def is_section(annotation: Any) -> TypeGuard[type]:
    return isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation))


def keys_of(section: type) -> dict[str, Any]:
    """The annotation of each key."""
    if issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    hints = get_type_hints(section, include_extras=True)
    fields: Any = dataclasses.fields  # mypy does not take a plain type for a dataclass
    return {field.name: hints[field.name] for field in fields(section)}


def description_of(section: type, key: str) -> str | None:
    """What the section says about a key."""
    field = section.model_fields.get(key) if issubclass(section, BaseModel) else None
    return field.description if field else None


def spot(location: Place, root: type) -> Spot:
    """Follow pydantic's location of an error down the types. The tag of a union is a step in it, but not in the file."""
    place: Place = ()
    section: type | None = None
    here: Any = root
    for step in location:
        choices = alternatives(here)
        if len(choices) > 1:
            here = next((choice for choice in choices if step in _tags(choice)), None)
        elif step != "[key]":  # about the key itself, which is the step before
            place = (*place, step)
            section, here = _down(choices[0], step)
    return Spot(place, section, here)


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union but for None; what is no union is its own only member."""
    if get_origin(annotation) is Annotated:
        kept = [mark for mark in annotation.__metadata__ if isinstance(mark, Tag)]
        return [annotation] if kept else alternatives(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    members = [member for member in get_args(annotation) if member is not NoneType]
    return alternatives(members[0]) if len(members) == 1 else members


def tag_values(annotation: Any, chooser: str) -> list[str]:
    """The values of the key `chooser` that choose among the members of a union."""
    members = (_bare(member) for member in alternatives(annotation))
    found = (keys_of(member).get(chooser) for member in members if is_section(member))
    return [value for annotation in found if get_origin(annotation) is Literal for value in get_args(annotation)]


def all_places(section: type, place: Place = ()) -> Iterator[Place]:
    """Every key of a section and of the sections below it; not those of items of lists and mappings."""
    for key, annotation in keys_of(section).items():
        yield (*place, key)
        for inner in map(_bare, alternatives(annotation)):
            if is_section(inner):
                yield from all_places(inner, (*place, key))


def _down(annotation: Any, step: str | int) -> tuple[type | None, Any]:
    """(the section whose key the step is, what stands there)."""
    annotation = _bare(annotation)
    if is_section(annotation):
        return annotation, keys_of(annotation).get(str(step))
    inner = [each for each in get_args(annotation) if each is not Ellipsis]
    if get_origin(annotation) is tuple and isinstance(step, int) and step < len(inner):
        return None, inner[step]
    return None, inner[-1] if inner else None  # of list[item] and dict[key, item]


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _tags(member: Any) -> set[Any]:
    """What pydantic may call a member of a union: its tag, a literal that chooses it, its name."""
    tags = {mark.tag for mark in getattr(member, "__metadata__", ()) if isinstance(mark, Tag)}
    section = _bare(member)
    if is_section(section):
        literals = [annotation for annotation in keys_of(section).values() if get_origin(annotation) is Literal]
        tags |= {section.__name__, *(value for literal in literals for value in get_args(literal))}
    return tags
