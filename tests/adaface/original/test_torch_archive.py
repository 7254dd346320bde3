"""Zip files as torch writes them are read; all others are refused before anything large is read."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from adaface.original import torch_archive
from adaface.original.inert_objects import Limits
from adaface.original.torch_archive import StoredTensor, TorchArchive
from tests.adaface.original.hostile_pickles import Raw, archive, call, named, pickled, storage, tensor, value

FLOATS = struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)


def open_tensor(tmp_path: Path, thing: Raw, data: bytes = FLOATS) -> torch.Tensor:
    with TorchArchive(archive(tmp_path / "x.pt", pickled(thing), {"0": data})) as file:
        return file.tensor(file.root)


def refused(path: Path, said: str) -> None:
    """A ValueError that names the file, within little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=said) as caught:
            TorchArchive(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 900


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.uint8, torch.bool], ids=str)
def test_tensors_are_read_bit_exactly(dtype: torch.dtype, tmp_path: Path):
    values = torch.arange(24).reshape(2, 3, 4).to(dtype)
    views = [values, values[1:, ::2], values.transpose(0, 2), values[0, 0, 0], values[:0]]
    views += [torch.nn.Parameter(values[0])] if dtype.is_floating_point else [values[:, 1:].clone()]
    torch.save(views, tmp_path / "x.pt")
    with TorchArchive(tmp_path / "x.pt") as file:
        for stored, expected in zip(file.root, views, strict=True):
            assert type(stored) is StoredTensor and stored.shape == tuple(expected.shape)
            read = file.tensor(stored)
            assert read.dtype == dtype and read.is_contiguous() and torch.equal(read, expected)


def test_tensors_with_attributes_and_state_dicts_are_read(tmp_path: Path):
    marked = torch.rand(3)
    marked._is_hf_initialized = True  # transformers does this
    layer = torch.nn.Linear(2, 3)
    torch.save({"marked": marked, "layer": layer.state_dict()}, tmp_path / "x.pt")
    with TorchArchive(tmp_path / "x.pt") as file:
        assert torch.equal(file.tensor(file.root["marked"]), marked)
        assert torch.equal(file.tensor(file.root["layer"]["weight"]), layer.weight)


def test_a_bool_is_a_bool(tmp_path: Path):
    found = open_tensor(tmp_path, tensor(storage("0", 4, "BoolStorage"), 0, (4,)), b"\x00\x01\x02\xff")
    assert found.int().tolist() == [0, 1, 1, 1]


TENSORS: dict[str, tuple[Raw, str]] = {
    "a storage larger than its file": (tensor(storage("0", 1 << 40)), "declares another size"),
    "a storage smaller than its file": (tensor(storage("0", 3)), "declares another size"),
    "a storage of a size below zero": (tensor(storage("0", -4)), "without a name or a size"),
    "a storage of half a value": (tensor(storage("0", 3.5)), "without a name or a size"),
    "a storage of another dtype": (tensor(storage("0", 4, "DoubleStorage")), "declares another size"),
    "a storage of no dtype": (tensor(storage("0", 4, "UntypedStorage")), "a kind that is not read"),
    "a storage of a kind of its own": (tensor(storage("0", 4, "load")), "a kind that is not read"),
    "a storage that is not there": (tensor(storage("7", 4)), "lacks the storage '7'"),
    "a storage elsewhere": (tensor(storage("../data.pkl", 4)), "lacks the storage"),
    "a storage on the disk": (tensor(storage("/etc/hostname", 4)), "lacks the storage"),
    "a storage under a number": (tensor(storage(0, 4)), "without a name or a size"),  # type: ignore[arg-type]
    "a storage that is a module": (Raw(value(("module", named("a", "b"), "", "")) + b"Q"), "is no storage"),
    "no storage at all": (tensor("0"), "of something that is no storage"),
    "an offset behind the end": (tensor(storage("0", 4), 3), "reaches beyond its storage"),
    "a huge offset": (tensor(storage("0", 4), 1 << 39), "reaches beyond its storage"),
    "an offset before the start": (tensor(storage("0", 4), -1), "no sizes"),
    "a shape behind the end": (tensor(storage("0", 4), 0, (5,)), "reaches beyond its storage"),
    "strides behind the end": (tensor(storage("0", 4), 0, (2, 2), (3, 1)), "reaches beyond its storage"),
    "a stride below zero": (tensor(storage("0", 4), 0, (2,), (-1,)), "no sizes"),
    "a shape below zero": (tensor(storage("0", 4), 0, (-2,), (1,)), "no sizes"),
    "a shape of truths": (tensor(storage("0", 4), 0, (True,), (1,)), "no sizes"),
    "a shape of texts": (tensor(storage("0", 4), 0, ("2",), (1,)), "no sizes"),
    "a shape in a list": (tensor(storage("0", 4), 0, [2], [1]), "without a shape"),
    "a huge number": (tensor(storage("0", 4), 1 << 900), "no sizes"),
    "more dimensions than strides": (tensor(storage("0", 4), 0, (2, 2), (1,)), "without a shape"),
    "a hundred dimensions": (tensor(storage("0", 4), 0, (1,) * 100, (1,) * 100), "without a shape"),
    "terabytes by strides of zero": (tensor(storage("0", 4), 0, (1 << 20, 1 << 20), (0, 0)), "values are not read"),
    "a tensor of one argument": (call(named("torch._utils", "_rebuild_tensor_v2"), 1), "wrong number of arguments"),
    "a parameter of a text": (call(named("torch._utils", "_rebuild_parameter"), "x", True, None), "no tensor"),
    "a dictionary of numbers": (call(named("collections", "OrderedDict"), [1, 2]), "no list of pairs"),
    "a dictionary of a text": (call(named("collections", "OrderedDict"), "ab"), "no short list of pairs"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_is_not_in_the_file_is_refused(name: str, tmp_path: Path):
    thing, said = TENSORS[name]
    refused(archive(tmp_path / "x.pt", pickled(thing), {"0": FLOATS}), said)


def test_what_may_be_read_from_one_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch_archive, "ALL_ELEMENTS", 5)
    path = archive(tmp_path / "x.pt", pickled(tensor(storage("0", 4), 0, (4,))), {"0": FLOATS})
    with TorchArchive(path) as file:
        assert file.tensor(file.root).tolist() == [1.0, 2.0, 3.0, 4.0]
        with pytest.raises(ValueError, match="more than 5 values together"):
            file.tensor(file.root)


def test_a_huge_pickle_is_not_read(tmp_path: Path):
    path = archive(tmp_path / "x.pt", pickled({}) + bytes(100))
    with pytest.raises(ValueError, match=r"has 106 bytes; 50 are the most"):
        TorchArchive(path, Limits(pickle_bytes=50))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    torch.save({"a": torch.arange(1000.0), "b": torch.zeros(3)}, tmp_path / "sound.pt")
    return tmp_path / "sound.pt"


def test_a_truncated_file_is_refused_wherever_it_was_cut(sound: Path):
    data = sound.read_bytes()
    cuts = [*range(1, len(data), len(data) // 40), len(data) - 22, len(data) - 2, len(data) - 1]
    for cut in cuts:
        sound.write_bytes(data[:cut])
        refused(sound, "cut off|no checkpoint written by torch.save")
    sound.write_bytes(data + b"\0")
    refused(sound, "cut off or has something after its end")


def test_a_missing_piece_in_the_middle_is_refused(sound: Path):
    data = sound.read_bytes()
    for start in range(200, 4000, 400):
        sound.write_bytes(data[:start] + data[start + 100 :])
        with pytest.raises(ValueError, match=str(sound)), TorchArchive(sound) as file:
            file.tensor(file.root["a"])


def test_a_flipped_bit_is_found_by_the_check_sum(sound: Path):
    data = bytearray(sound.read_bytes())
    data[data.index(struct.pack("<f", 500.0))] ^= 1
    sound.write_bytes(data)
    with TorchArchive(sound) as file, pytest.raises(ValueError, match=r"damaged .*CRC"):
        file.tensor(file.root["a"])


def members(path: Path, *names: str, compression: int = zipfile.ZIP_STORED, data: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name in names:
            file.writestr(name, data or pickled({}))
    return path


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("x/data.pkl", "x/../../evil"), "points out of"),
        (("x/data.pkl", "../x/evil"), "points out of"),
        (("x/data.pkl", "/x/evil"), "points out of"),
        (("x/data.pkl", "x//evil"), "points out of"),
        (("x/data.pkl", "x/data/"), "points out of"),
        (("x/data.pkl", "evil"), "points out of"),
        (("x/data.pkl", "x\\..\\evil"), "does not write"),
        (("x/data.pkl", "C:/evil"), "does not write"),
        (("x/data.pkl", "x/\x1b[2Jevil"), "does not write"),
        (("x/data.pkl", "x/data.pkl"), "there twice"),
        (("x/data.pkl", "x/data/0", "x/data/0"), "there twice"),
        (("x/data.pkl", "y/data.pkl"), "no data.pkl in one top folder"),
        (("x/weights.bin",), "no data.pkl in one top folder"),
    ],
)
def test_names_that_torch_does_not_write_are_refused(names: tuple[str, ...], said: str, tmp_path: Path):
    refused(members(tmp_path / "x.pt", *names), said)
    assert [path.name for path in tmp_path.rglob("*")] == ["x.pt"]


def test_a_zip_bomb_is_refused(tmp_path: Path):
    bomb = members(tmp_path / "x.pt", "x/data.pkl", compression=zipfile.ZIP_DEFLATED, data=bytes(50_000_000))
    assert bomb.stat().st_size < 100_000
    refused(bomb, "compressed, which torch never does")


def patched(path: Path, offset: int, layout: str, number: int, signature: bytes = b"PK\x01\x02") -> Path:
    """The zip with one number of its last table entry changed."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.rindex(signature) + offset, number)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("offset", "layout", "number", "said"),
    [
        (8, "<H", 1, "encrypted"),
        (10, "<H", 99, "compressed"),
        (24, "<L", 1 << 30, "compressed"),
        (42, "<L", 1 << 30, "reaches beyond the end|damaged"),
    ],
)
def test_a_table_of_contents_that_lies_is_refused(offset: int, layout: str, number: int, said: str, tmp_path: Path):
    refused(patched(members(tmp_path / "x.pt", "x/data.pkl"), offset, layout, number), said)


def test_a_huge_member_or_table_is_refused(tmp_path: Path):
    path = patched(members(tmp_path / "x.pt", "x/data.pkl"), 20, "<L", 1 << 30)
    refused(patched(path, 24, "<L", 1 << 30), "reaches beyond the end")
    path = members(tmp_path / "y.pt", "x/data.pkl")
    refused(patched(path, 12, "<L", 1 << 31, b"PK\x05\x06"), "table of contents")


def test_members_that_overlap_are_refused(tmp_path: Path):
    """A thousand entries for the same bytes would be a bomb without compression."""
    path = members(tmp_path / "x.pt", "x/data.pkl", "x/data/0", "x/data/1", data=bytes(1000))
    data = bytearray(path.read_bytes())
    table = data.index(b"PK\x01\x02")
    for _ in range(3):
        struct.pack_into("<LL", data, table + 20, 2500, 2500)
        struct.pack_into("<L", data, table + 42, 0)
        table = data.find(b"PK\x01\x02", table + 4)
    path.write_bytes(data)
    refused(path, "overlap")


def test_what_is_no_torch_zip_is_refused(tmp_path: Path):
    path = tmp_path / "x.pt"
    contents: list[tuple[bytes, str]] = [
        (b"", "no zip file"),
        (b"hello", "no zip file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no zip file"),
        (pickled({"a": 1}), "without a zip around it"),
    ]
    for data, said in contents:
        path.write_bytes(data)
        refused(path, said)
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    refused(path, "torch before 1.6")
    save_file({"a": torch.zeros(2)}, path)
    refused(path, "no zip file")
    with pytest.raises(FileNotFoundError, match="no such file"):
        TorchArchive(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        TorchArchive(tmp_path / "other.pt")


def test_big_endian_numbers_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("x/data.pkl", pickled({}))
        file.writestr("x/byteorder", b"big")
    refused(tmp_path / "x.pt", "big-endian")


def test_the_file_is_closed_when_it_is_refused(tmp_path: Path):
    path: Any = archive(tmp_path / "x.pt", b"nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(ValueError, match=r"x\.pt: "):
            TorchArchive(path)
