"""Nothing in a pickle runs, and none takes more time or memory than its length allows."""

from __future__ import annotations

import functools
import pickle
import resource
import struct
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from adaface.original.checkpoints import read_original
from adaface.original.inert_objects import Global, Limits, OpaqueKey, Record
from adaface.original.inert_pickle import Pickled, read_pickle
from tests.adaface.original.hostile_pickles import (
    Raw,
    archive,
    call,
    checkpoint,
    module,
    named,
    pickled,
    value,
    with_state,
)

# What a payload would do, as the interpreter reports it
TELLING = ("os.", "subprocess.", "exec", "compile", "shutil.", "socket.", "import", "pickle.find_class", "ctypes.")
events: list[str] = []
watching = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and event.startswith(TELLING):
        events.append(f"{event} {arguments!r:.200}")


sys.addaudithook(watch)  # cannot be taken away again


@contextmanager
def nothing_runs(folder: Path) -> Iterator[None]:
    """Python itself reports what its interpreter does inside, whatever the reader believes."""
    global watching
    with pytest.raises(ValueError, match="no checkpoint of the original"):  # what is imported late is imported now
        read_original(archive(folder / "empty.pt", pickled({})))
    events.clear()
    watching = True
    try:
        yield
    finally:
        watching = False
    assert not events


def read(data: bytes, **limits: int) -> Pickled:
    return read_pickle(data, {}, lambda reference: reference, Limits(**limits))


def getattr_chain(bait: str) -> Raw:
    module_os = call(named("importlib", "import_module"), "os")
    return call(call(named("builtins", "getattr"), module_os, "mkdir"), bait)


def through_subclasses(bait: str) -> Raw:
    """().__class__.__base__.__subclasses__()... as expression hackers go; here only its start, and then a call."""
    get = named("builtins", "getattr")
    return call(call(get, call(get, call(get, (), "__class__"), "__base__"), "__subclasses__"), bait)


# Each makes the folder `bait` when it runs, but for the last.
PAYLOADS: dict[str, Callable[[str], Raw]] = {
    "os.system": lambda bait: call(named("os", "system"), f"mkdir '{bait}'"),
    "posix.system": lambda bait: call(named("posix", "system"), f"mkdir '{bait}'"),
    "eval": lambda bait: call(named("builtins", "eval"), f"__import__('os').mkdir({bait!r})"),
    "python 2's eval": lambda bait: call(named("__builtin__", "eval"), f"__import__('os').mkdir({bait!r})"),
    "exec": lambda bait: call(named("builtins", "exec"), f"import os; os.mkdir({bait!r})"),
    "Popen": lambda bait: call(named("subprocess", "call"), ["mkdir", bait]),
    "getattr chain": getattr_chain,
    "nested callables": lambda bait: call(
        named("builtins", "list"), call(named("builtins", "map"), named("os", "mkdir"), [bait])
    ),
    "INST": lambda bait: Raw(b"(" + value(bait) + b"ios\nmkdir\n"),
    "OBJ": lambda bait: Raw(b"(" + named("os", "mkdir") + value(bait) + b"o"),
    "STACK_GLOBAL": lambda bait: call(Raw(value("os") + value("mkdir") + b"\x93"), bait),
    "a dotted name": lambda bait: call(Raw(value("pathlib") + value("os.mkdir") + b"\x93"), bait),
    "__setstate__ of a partial": lambda bait: call(
        with_state(call(named("functools", "partial"), named("builtins", "print")), (named("os", "mkdir"), (bait,), {}, {})),
    ),
    "a torch loader": lambda bait: call(
        named("torch._tensor", "_rebuild_from_type_v2"), named("os", "mkdir"), named("builtins", "type"), (bait,), None
    ),
    "subclasses": through_subclasses,
}  # fmt: skip


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_does_not_run(name: str, tmp_path: Path):
    bait = tmp_path / "bait"
    payload = PAYLOADS[name](str(bait))
    generator = module("adaface.subj_basis_generator.SubjBasisGenerator", placeholder_is_bg=payload)
    for number, root in enumerate((payload, {"loss": payload}, checkpoint(generator), checkpoint(payload))):
        path = archive(tmp_path / f"{number}.pt", pickled(root))
        with nothing_runs(tmp_path), pytest.raises(ValueError) as caught:
            read_original(path)
        assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 600
    assert not bait.exists()


def test_the_watch_sees(tmp_path: Path):
    with pytest.raises(AssertionError), nothing_runs(tmp_path):
        pickle.loads(pickled(named("os", "getpid")))


@pytest.mark.parametrize("name", [name for name in PAYLOADS if name not in ("subclasses", "a torch loader")])
def test_the_payloads_are_real(name: str, tmp_path: Path):
    """Python's own unpickler runs them; otherwise the test above would prove nothing."""
    bait = tmp_path / "bait"
    pickle.loads(pickled(PAYLOADS[name](str(bait)), protocol=2 if "python 2" in name else 4))
    assert bait.exists()


def test_a_payload_among_sound_weights_is_refused_and_named(tmp_path: Path):
    path = archive(tmp_path / "x.pt", pickled(checkpoint(None, extra=PAYLOADS["os.system"]("x"))))
    with pytest.raises(ValueError, match=r"it names os\.system, .* not to be trusted \(nothing of it ran\)"):
        read_original(path)


def test_no_attribute_of_a_real_object_is_set(tmp_path: Path):
    """BUILD sets attributes of what a strict find_class lets through: here of torch's own rebuilder."""
    rebuilder = torch._utils._rebuild_tensor_v2
    attack = pickled(with_state(named("torch._utils", "_rebuild_tensor_v2"), (None, {"__defaults__": (1,)})))
    before = rebuilder.__defaults__
    try:
        pickle.loads(attack)
        assert rebuilder.__defaults__ == (1,)
    finally:
        rebuilder.__defaults__ = before
    with pytest.raises(ValueError, match=r"sets the state of the global torch\._utils\._rebuild_tensor_v2"):
        read_original(archive(tmp_path / "x.pt", attack))
    assert rebuilder.__defaults__ == before


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("os\nsystem", "x"), "no name of a class"),
        (("", "system"), "no name of a class"),
        (("os", ""), "no name of a class"),
        (("os..path", "system"), "no name of a class"),
        (("ｏs", "system"), "no name of a class"),
        (("a" * 400, "b"), "no name of a class"),
        (("\x1b[2J", "b"), "no name of a class"),
        ((1, 2), "no string"),
        ((("os",), "system"), "no string"),
        (("adaface", "__class__.__base__"), "not to be trusted"),
        (("torch", "hub.load"), "not to be trusted"),
    ],
)
def test_weird_names_are_refused(names: tuple[Any, Any], said: str, tmp_path: Path):
    path = archive(tmp_path / "x.pt", pickled(Raw(value(names[0]) + value(names[1]) + b"\x93")))
    with pytest.raises(ValueError, match=said) as caught:
        read_original(path)
    assert str(caught.value).isprintable()


BROKEN = {
    "POP of nothing": b"\x80\x02000.",
    "REDUCE of nothing": b"\x80\x02R.",
    "REDUCE of a number": b"\x80\x02K\x01)R.",
    "a call of what a call gave": pickled(call(call(named("a", "b")))),
    "arguments that are a list": b"\x80\x02ca\nb\n]R.",
    "BUILD of a number": b"\x80\x02K\x01}b.",
    "SETITEM of a number": b"\x80\x02K\x01K\x01K\x01s.",
    "SETITEMS of three": b"\x80\x02}(K\x01K\x02K\x03u.",
    "APPEND to a tuple": b"\x80\x02)K\x01a.",
    "TUPLE without mark": b"\x80\x02K\x01t.",
    "GET of nothing": b"\x80\x02h\x07.",
    "OBJ of nothing": b"\x80\x02(o.",
    "keywords for a number": b"\x80\x04K\x01)}\x92.",
    "no STOP": b"\x80\x02}",
    "STOP with nothing": b"\x80\x02.",
    "objects left": b"\x80\x02}}.",
    "an open mark": b"\x80\x02(}.",
    "bytes after STOP": b"\x80\x02}.}",
    "a second pickle": b"\x80\x02}.cos\nsystem\n.",
    "an unknown operation": b"\x80\x02\xff.",
    "the extension registry": b"\x80\x02\x82\x01.",
    "a persistent id in text": b"\x80\x02Pname\n.",
    "an out-of-band buffer": b"\x80\x05\x97.",
    "half a number": b"\x80\x02J\x01",
    "a string that is too short": b"\x80\x02X\xff\xff\xff\xffabc.",
    "a huge string": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
    "a huge array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b"abc.",
    "a huge long": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"abc.",
    "a negative long": b"\x80\x02\x8b" + struct.pack("<i", -1) + b"abc.",
    "a number in a million digits": b"\x80\x02I" + b"9" * 1_000_000 + b"\n.",
    "no UTF-8": b"\x80\x02X\x01\x00\x00\x00\xff.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_pickle_is_a_value_error(name: str, tmp_path: Path):
    with pytest.raises(ValueError) as caught:
        read_original(archive(tmp_path / "x.pt", BROKEN[name]))
    assert len(str(caught.value)) < 600


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return b"\x80\x02" + opening * depth + b"N" + closing * depth + b"."


def laughs(levels: int) -> bytes:
    """A list of ten times the list before, which is a list of ten times ...: 10**levels elements in a few bytes."""
    out = b"\x80\x02]q\x00"
    for level in range(levels):
        out += b"](" + b"h" + bytes([level]) + (b"h" + bytes([level])) * 9 + b"eq" + bytes([level + 1])
    return out + b"0" * levels + b"."


def colliding(count: int) -> bytes:
    """A dictionary whose keys have all the hash 0: as many take Python's dictionaries minutes."""
    keys = b"".join(value(((1 << 61) - 1) * number) + b"N" for number in range(1, count))
    return b"\x80\x02}(" + keys + b"u."


BOMBS = {
    "lists in lists": nested(b"](", b"e", 60_000),
    "tuples in tuples": nested(b"", b"\x85", 200_000),
    "dictionaries in dictionaries": nested(b"}K\x01", b"s", 60_000),
    "a deep tuple as a key": b"\x80\x02}N" + b"\x85" * 200_000 + b"Ns.",
    "objects in objects": nested(b"ca\nb\n", b"\x85R", 60_000),
    "states in states": nested(b"ca\nb\n)\x81", b"b", 60_000),
    "laughs": laughs(200),
    "hashes that collide": colliding(80_000),
    "a memo of four billion": b"\x80\x02}r\xff\xff\xff\xff.",
    "a memo of a text number": b"\x80\x02}p" + b"9" * 4000 + b"\n.",
    "a frame without end": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.",
    "many dictionaries": b"\x80\x02(" + b"}" * 200_001 + b"t.",
    "many marks": b"\x80\x02" + b"(" * 200_001 + b"N.",
    "calls without end": b"\x80\x02ccollections\nOrderedDict\nq\x00" + b"h\x00)R0" * 20_000 + b".",
    "an ordered dictionary, copied": (
        b"\x80\x02](" + b"NN\x86" * 2000 + b"eq\x00" + b"ccollections\nOrderedDict\nh\x00\x85R0" * 1000 + b"."
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_time_and_memory(name: str, tmp_path: Path):
    path = archive(tmp_path / "x.pt", BOMBS[name])
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError) as caught:
        read_original(path)
    assert len(str(caught.value)) < 600
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 500_000  # kilobytes


def test_limits_hold():
    with pytest.raises(ValueError, match="more than 10 steps"):
        read(b"\x80\x02" + b"N0" * 10 + b"N.", operations=10)
    with pytest.raises(ValueError, match="stacks more than 3 objects"):
        read(b"\x80\x02(NN(t0t.", stack=3)
    with pytest.raises(ValueError, match="remembers more than 2 objects"):
        read(b"\x80\x04N\x94N\x94N\x94.", memo=2)
    with pytest.raises(ValueError, match="more than 8 are not read"):
        read(b"\x80\x02" + b"N0" * 10 + b"N.", pickle_bytes=8)
    assert read(b"\x80\x02(NN(t0t.", stack=4).root == (None, None)
    assert read(b"\x80\x04N\x94q\x00.", memo=1).root is None  # the same place again is no new one


class Point:
    def __init__(self) -> None:
        self.x = 3


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read_as_they_are(protocol: int):
    values = {
        "numbers": [0, 1, -1, 255, 65536, -(1 << 40), 1 << 70, 0.5, float("-inf")],
        "texts": ["", "a\nb", "ü", "𝄞", b"\x00\xff" if protocol > 2 else ""],
        "singles": (None, True, False),
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        ("a", "pair"): {1: {}, None: []},
    }
    assert read(pickle.dumps(values, protocol)).root == values


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_objects_become_records(protocol: int):
    found = read(pickle.dumps([Point(), Point, {1, 2}, frozenset({3}), types.SimpleNamespace(a=1)], protocol))
    point, kind, _, _, space = found.root
    name = f"{Point.__module__}.Point"
    assert type(point) is Record and point.name == name and point.attribute("x") == 3 and point.attribute("y") is None
    assert kind == Global(name) and name in found.names
    assert space.name == "types.SimpleNamespace" and space.attribute("a") == 1
    assert repr(point) == f"Record('{name}')"


def test_keywords_items_and_members_of_an_object_are_kept():
    found = read(b"\x80\x04ca\nb\n)}X\x01\x00\x00\x00kK\x05s\x92K\x07aX\x01\x00\x00\x00mK\x06s.").root
    assert (found.name, found.items, found.members) == ("a.b", {"k": 5, "m": 6}, [7])


def test_keys_whose_hash_the_file_could_choose_are_wrapped():
    keys = [((1, 2),), 1 << 61, 0.5, b"x"]
    found = read(pickle.dumps({key: number for number, key in enumerate(keys)}, 4)).root
    assert all(type(key) is OpaqueKey for key in found)
    assert [key.key for key in found] == keys
    assert functools.reduce(lambda a, b: a + b, found.values()) == 6
