"""A pickle as data: every class and function that it names stays a name.

Nothing is imported, called, compared or hashed on behalf of the file: a global becomes a `Global` (its name), calling
one becomes a `Record` (the name and the arguments). Only names in a table given by the caller have a meaning
(`adaface.original.torch_archive` gives the tensor rebuilders). `pickle.Unpickler` with a strict `find_class` would not do: it
still sets attributes of the objects found, grows its memo to any number in the file, and hashes tuples nested so
deeply that the interpreter crashes.

Work and memory are bounded by the length of the pickle and by `Limits`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adaface.original.inert_objects import Global, Limits, Machine, Maker, kind_of


@dataclass(frozen=True)
class Pickled:
    """What a pickle holds, and every global that it names."""

    root: Any
    names: frozenset[str]


def read_pickle(
    data: bytes, makers: Mapping[str, Maker], persistent: Callable[[Any], Any], limits: Limits | None = None
) -> Pickled:
    """Read one pickle without running anything in it.

    Args:
        data: the pickle, protocols 0 to 5.
        makers: what calling a global of this name gives, from the arguments; any other call gives a `Record`. A
            maker must trust nothing in its arguments, and raises ValueError for those that make no sense.
        persistent: what a persistent id stands for (in a torch file, a storage).

    Raises:
        ValueError: for what is no pickle, and for one that a checkpoint has no reason to be like.
    """
    limits = limits or Limits()
    if len(data) > limits.pickle_bytes:
        raise ValueError(f"its pickle has {len(data):,} bytes; more than {limits.pickle_bytes:,} are not read")
    machine = Machine(makers, persistent, limits)
    end = 0
    for operation, argument, position in _operations(data):
        machine.count(1)
        end = (position or 0) + 1
        if operation.name == "STOP":
            break
        step = _STEPS.get(operation.name)
        if step is None:
            raise ValueError(f"its pickle uses {operation.name}, which no torch file needs")
        step(machine, argument)
    if end != len(data):
        raise ValueError("its pickle goes on after its end")
    root = machine.pop()
    if machine.stack or machine.marked:
        raise ValueError("its pickle leaves objects behind")
    return Pickled(root, frozenset(machine.names))


def _operations(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    try:
        yield from pickletools.genops(data)
    except ValueError as error:  # its messages may repeat a megabyte of what they read
        raise ValueError(f"its pickle is damaged: {str(error)[:200]}") from error


def _instance(machine: Machine, named: str) -> None:
    """INST: a class named in the operation, its arguments above the mark."""
    arguments = tuple(machine.to_mark())
    machine.name_global(*named.split(" ", 1))
    machine.call(machine.pop(), arguments)


def _object(machine: Machine, _: object) -> None:
    """OBJ: the class and its arguments above the mark."""
    above = machine.to_mark()
    if not above:
        raise ValueError("its pickle makes an object of no class")
    machine.call(above[0], tuple(above[1:]))


def _reduce(machine: Machine, _: object) -> None:
    arguments, callee = machine.pop(), machine.pop()
    machine.call(callee, arguments)


def _new_with_keywords(machine: Machine, _: object) -> None:
    keywords, arguments, callee = machine.pop(), machine.pop(), machine.pop()
    if type(keywords) is not dict or (keywords and type(callee) is Global and callee.name in machine.makers):
        raise ValueError(f"its pickle gives keywords to {kind_of(callee)}")
    machine.call(callee, arguments)
    if keywords:
        machine.top().items.update(keywords)


def _stack_global(machine: Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name_global(module, name)


def _set_item(machine: Machine, _: object) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _pop(machine: Machine, _: object) -> None:
    if machine.stack:
        machine.pop()
    else:
        machine.to_mark()  # POP on an open mark closes it


def _tuple_of(size: int) -> Callable[[Machine, Any], None]:
    def step(machine: Machine, _: object) -> None:
        machine.push(tuple([machine.pop() for _ in range(size)][::-1]))

    return step


def _push(machine: Machine, argument: Any) -> None:
    machine.push(argument)


_VALUES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
# Sets are read as lists: their members need no hash.
_STEPS: dict[str, Callable[[Machine, Any], object]] = {
    **dict.fromkeys(_VALUES.split(), _push),
    "PROTO": lambda machine, protocol: None,
    "FRAME": lambda machine, length: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push([]),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": lambda machine, _: machine.push(machine.to_mark()),
    "FROZENSET": lambda machine, _: machine.push(machine.to_mark()),
    "DICT": lambda machine, _: machine.make_dict(machine.to_mark()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.to_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.to_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.to_mark()),
    "MARK": lambda machine, _: machine.mark(),
    "POP": _pop,
    "POP_MARK": lambda machine, _: machine.to_mark(),
    "DUP": lambda machine, _: machine.push(machine.top()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, place: machine.put(place)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, place: machine.get(place)),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GLOBAL": lambda machine, named: machine.name_global(*named.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "INST": _instance,
    "OBJ": _object,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.pop())),
}
