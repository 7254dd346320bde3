"""`package://` names what is shipped; everything else is an ordinary path."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import adaface.perception
from adaface.model_path import may_be_on_the_hub, model_path, path_or_hub_name
from adaface.perception.config import BiSeNetConfig
from adaface.perception.pack import resolve_pack
from adaface.perception.parsing import load_parser
from adaface.shipped_files import MANIFEST, sha256


def test_an_ordinary_path_is_left_as_it_is():
    assert model_path("models/antelopev2") == Path("models/antelopev2")
    assert model_path(Path("/a/b")) == Path("/a/b")
    assert model_path("~/models") == Path.home() / "models"


def test_a_file_of_a_package_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = model_path("package://adaface.perception/classes.py")
    assert file.is_file() and file.parent == Path(adaface.perception.__path__[0])


@pytest.mark.parametrize(
    "name",
    [
        "package://no_such_package/x",
        "package://adaface.nothing.at/x",
        "package:///x",
        "package://a..b/x",
        "package://__main__/x",
        "package://adaface.model_path/x",
        "package://adaface.mini-ature/x",
    ],
)
def test_a_package_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match="no Python package"):
        model_path(name)


def test_finding_a_package_imports_none_of_it(tmp_path, monkeypatch):
    """A name may come from an encoder that somebody else published."""
    inner = tmp_path / "runs_code_of_tests" / "inner"
    (inner / "weights").mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert model_path("package://runs_code_of_tests.inner/weights") == inner / "weights"
    assert model_path("package://runs_code_of_tests/inner") == inner
    with pytest.raises(ValueError, match="no Python package"):
        model_path("package://runs_code_of_tests.nothing/weights")
    assert not any(name.startswith("runs_code_of_tests") for name in sys.modules)


@pytest.mark.parametrize(
    "name", ["package://adaface", "package://adaface/", "package://adaface/../x", "package://adaface//x"]
)
def test_a_path_that_leaves_the_package_is_refused(name):
    with pytest.raises(ValueError, match="inside the package"):
        model_path(name)


def test_packs_and_parsers_can_be_named_so(tmp_path, monkeypatch):
    (tmp_path / "shipping_models" / "pack").mkdir(parents=True)
    (tmp_path / "shipping_models" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no \.onnx file in .*shipping_models"):
        resolve_pack("package://shipping_models/pack")
    with pytest.raises(FileNotFoundError, match=r"shipping_models.nothing\.safetensors does not exist"):
        load_parser(BiSeNetConfig(file="package://shipping_models/nothing.safetensors"))


def test_shipped_files_are_compared_with_their_manifest(tmp_path, monkeypatch):
    """Files outside the named folder do not matter to it."""
    weights = tmp_path / "shipping_sums" / "weights"
    (weights / "pack").mkdir(parents=True)
    (tmp_path / "shipping_sums" / "__init__.py").touch()
    (weights / "pack" / "sound.onnx").write_bytes(b"sound")
    (weights / "pack" / "changed.onnx").write_bytes(b"changed")
    (weights / "pack" / "cut.onnx").write_bytes(b"")
    sums = {name: {"sha256": sha256(weights / "pack" / f"{name}.onnx")} for name in ("sound", "changed", "cut")}
    files = {f"pack/{name}.onnx": entry for name, entry in sums.items()} | {"elsewhere.bin": {"sha256": "0"}}
    (weights / MANIFEST).write_text(json.dumps({"files": files}))
    (weights / "pack" / "changed.onnx").write_bytes(b"other")
    (weights / "pack" / "cut.onnx").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    assert model_path("package://shipping_sums/weights/pack/sound.onnx").read_bytes() == b"sound"
    with pytest.raises(ValueError) as caught:
        model_path("package://shipping_sums/weights/pack")
    assert "changed.onnx is not the shipped file (sha256 differs); install the package anew" in str(caught.value)
    assert "cut.onnx is missing" in str(caught.value) and "elsewhere" not in str(caught.value)


def test_names_that_may_be_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    assert may_be_on_the_hub("openai/clip-vit-base-patch32")
    assert may_be_on_the_hub("owner/name/unet", slashes=2) and not may_be_on_the_hub("owner/name/unet")
    paths = (
        "name",
        "../owner/name",
        "/owner/name",
        "~/name",
        "out/encoder",
        "models/arc2face",
        "package://a.b/c",
        "a/",
    )
    assert not any(may_be_on_the_hub(path) for path in paths)
    assert path_or_hub_name("out") == "out" and path_or_hub_name("owner/name") == "owner/name"
    with pytest.raises(FileNotFoundError, match="models/arc2face: there is no such folder"):
        path_or_hub_name("models/arc2face")
