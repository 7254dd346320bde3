"""What an inert pickle is read into, and the stack machine that puts it together.

The machine knows lists, dictionaries, tuples, strings and numbers. A class or function that the pickle names becomes a
`Global`, an object a `Record`. See `adaface.original.inert_pickle` for why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)


@dataclass(frozen=True)
class Limits:
    """What a checkpoint of the original, with two pickled tokenizers, stays far below."""

    pickle_bytes: int = 1 << 26
    operations: int = 8_000_000  # about 0.9 million with two tokenizers of 49,408 words
    stack: int = 200_000
    memo: int = 4_000_000
    name: int = 300  # characters of a global


@dataclass(frozen=True)
class Global:
    """The name of a class or function; nothing was imported."""

    name: str


@dataclass(eq=False, repr=False)
class Record:
    """An object that was not made: whose it would be, the arguments, and what was to be put into it."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    members: list[Any] = field(default_factory=list)

    def attribute(self, name: str) -> Any:
        """A plain attribute of the pickled object, None where there is none."""
        return self.state.get(name) if type(self.state) is dict else None

    def __repr__(self) -> str:  # what lies inside may contain itself, or be shared a billion times over
        return f"Record({self.name!a})"


@dataclass(frozen=True, eq=False, repr=False)
class OpaqueKey:
    """A key of a dictionary whose hash the file could choose; it is found by no look-up."""

    key: Any


Maker = Callable[[tuple[Any, ...]], Any]


class Machine:
    """The stack and memo of one pickle. `marked` holds the stacks below each open MARK."""

    def __init__(self, makers: Mapping[str, Maker], persistent: Callable[[Any], Any], limits: Limits) -> None:
        self.makers, self.persistent, self.limits = makers, persistent, limits
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.depth = 0
        self.memo: dict[int, Any] = {}
        self.names: set[str] = set()
        self.operations = 0

    def count(self, operations: int) -> None:
        self.operations += operations
        if self.operations > self.limits.operations:
            raise ValueError(f"its pickle takes more than {self.limits.operations:,} steps")

    def push(self, value: Any) -> None:
        self.depth += 1
        if self.depth > self.limits.stack:
            raise ValueError(f"its pickle stacks more than {self.limits.stack:,} objects")
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("its pickle takes an object from an empty stack")
        self.depth -= 1
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise ValueError("its pickle looks for an object on an empty stack")
        return self.stack[-1]

    def mark(self) -> None:
        self.push(None)  # so that marks, too, count as stacked objects
        self.stack.pop()
        self.marked.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        if not self.marked:
            raise ValueError("its pickle looks for a mark that was not set")
        above, self.stack = self.stack, self.marked.pop()
        self.depth -= len(above) + 1
        return above

    def put(self, place: int) -> None:
        if place not in self.memo and len(self.memo) >= self.limits.memo:
            raise ValueError(f"its pickle remembers more than {self.limits.memo:,} objects")
        self.memo[place] = self.top()

    def get(self, place: int) -> None:
        if place not in self.memo:
            raise ValueError("its pickle recalls an object that it did not store")
        self.push(self.memo[place])

    def name_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("its pickle names a global by something that is no string")
        module = "builtins" if module == "__builtin__" else module
        full = f"{module}.{name}"
        if len(full) > self.limits.name or not _NAME.fullmatch(module) or not _NAME.fullmatch(name):
            raise ValueError(f"its pickle names a global {full[:80]!a}, which is no name of a class or function")
        self.names.add(full)
        self.push(Global(full))

    def call(self, callee: Any, arguments: Any) -> None:
        if type(arguments) is not tuple:
            raise ValueError("its pickle makes an object from arguments that are no tuple")
        if type(callee) is not Global:
            raise ValueError(f"its pickle calls {kind_of(callee)}, not a class or function by its name")
        maker = self.makers.get(callee.name)
        self.push(Record(callee.name, arguments) if maker is None else maker(arguments))

    def build(self) -> None:
        """The state goes into a record. A dictionary keeps none: torch puts versions of layers there."""
        state, target = self.pop(), self.top()
        if type(target) is Record:
            target.state = state
        elif type(target) is not dict:
            raise ValueError(f"its pickle sets the state of {kind_of(target)}")

    def set_items(self, flat: list[Any]) -> None:
        target = self.top()
        if len(flat) % 2 or type(target) not in (dict, Record):
            raise ValueError(f"its pickle sets items of {kind_of(target)}")
        items = target.items if type(target) is Record else target
        items.update(zip(map(safe_key, flat[::2]), flat[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) not in (list, Record):
            raise ValueError(f"its pickle appends to {kind_of(target)}")
        (target.members if type(target) is Record else target).extend(values)

    def make_dict(self, flat: list[Any]) -> None:
        self.push({})
        self.set_items(flat)


def safe_key(key: Any) -> Any:
    """The key itself where its hash is random or cannot collide often, else an `OpaqueKey`.

    A file may choose integers or tuples of equal hash and so make a dictionary of a million keys take hours; and
    Python crashes when it hashes a tuple nested too deeply. Strings have random hashes.
    """
    if type(key) is str or key is None or type(key) is bool:
        return key
    if type(key) is int and abs(key) < 1 << 60:
        return key
    if type(key) is tuple and len(key) <= 8 and all(type(part) is str for part in key):
        return key
    return OpaqueKey(key)


def kind_of(value: Any) -> str:
    if type(value) is Global:
        return f"the global {value.name}"
    if type(value) is Record:
        return f"what {value.name} would have made"
    return f"a value of type {type(value).__name__}"
