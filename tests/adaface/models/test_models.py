"""The model registry against real folders, and downloads from a small server that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest
import torch
from safetensors.torch import save

from adaface.miniature.shipped import MANIFEST, WEIGHTS
from adaface.model_path import PREFIX, model_path
from adaface.models.download import download
from adaface.models.files import RECORD, look
from adaface.models.registry import Artefact, HubSource, ModelFile, chosen, registry
from flows.cli import main

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS_FILE = save({"a": torch.arange(5000.0)})


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def artefact(*files: ModelFile, repo: str = "some/model", **settings: str) -> Artefact:
    return Artefact("toy", "sd15", "to try", "CC0", "toy", (HubSource(repo, files),), **settings)


# The registry itself


def test_every_artefact_is_complete():
    for name, one in registry().items():
        assert one.name == name and one.licence and one.purpose
        assert one.files and len(set(one.files)) == len(one.files)
        assert bool(one.sources) != bool(one.shipped)
        assert one.by_hand or one.sources
        assert (one.world == "miniature") == one.folder.startswith(PREFIX)
        for file in one.files:
            assert not Path(file.path).is_absolute() and ".." not in Path(file.path).parts
            assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16) >= 0)


def test_what_is_shipped_lies_where_the_registry_says():
    there = {path.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.rglob("*") if path.is_file()} - {MANIFEST}
    listed = {
        (model_path(one.folder) / file.path).relative_to(WEIGHTS).as_posix()
        for one in registry().values()
        for file in one.shipped
    }
    assert listed & there  # some of them are always there
    if (WEIGHTS / MANIFEST).exists():
        assert there == listed


def test_unknown_names_are_refused(capsys):
    with pytest.raises(ValueError, match="no model is called nothing; there are sd15, mse-vae"):
        chosen(["nothing", "sd15"])
    assert [one.name for one in chosen(["dino", "clip-l"])] == ["clip-l", "dino"]
    assert all(one.sources for one in chosen(["all"], downloadable=True))
    assert main(["models", "nothing"]) == 2


# What is found on disk


def test_each_state_is_told_apart(tmp_path):
    class Hostile:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "effect"),)

    folder = tmp_path / "toy"
    folder.mkdir()
    torch.save({"weight": torch.zeros(3), "extra": Hostile()}, folder / "hostile.ckpt")
    torch.save({"weight": torch.zeros(3)}, folder / "plain.bin", _use_new_zipfile_serialization=False)
    torch.save({"weight": torch.zeros(3)}, folder / "zip.pth")
    (folder / "good.safetensors").write_bytes(WEIGHTS_FILE)
    (folder / "cut.safetensors").write_bytes(WEIGHTS_FILE[:-4])
    (folder / "page.safetensors").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    (folder / "pointer.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (folder / "empty.onnx").touch()
    (folder / "other.onnx").write_bytes(b"other")
    (folder / "short.onnx").write_bytes(b"short")
    (folder / "second.onnx").write_bytes(b"will do")
    expected = {
        "hostile.ckpt": "unsafe pickle", "plain.bin": "present", "zip.pth": "present", "good.safetensors": "present",
        "cut.safetensors": "damaged", "page.safetensors": "damaged", "pointer.onnx": "git-lfs pointer",
        "empty.onnx": "empty", "other.onnx": "wrong sha256", "short.onnx": "wrong size", "absent.onnx": "missing",
        "first.onnx": "present",
    }  # fmt: skip
    special = {
        "good.safetensors": ModelFile("good.safetensors", digest(WEIGHTS_FILE), len(WEIGHTS_FILE)),
        "other.onnx": ModelFile("other.onnx", digest(b"another")),
        "short.onnx": ModelFile("short.onnx", None, 6),
        "first.onnx": ModelFile("first.onnx", or_path="second.onnx"),
    }
    toy = artefact(*(special.get(name, ModelFile(name)) for name in expected))
    thorough = look(toy, tmp_path, thorough=True)
    assert {state.file.path: state.state for state in thorough.files} == expected
    assert not (tmp_path / "effect").exists()
    quick = {state.file.path: state.state for state in look(toy, tmp_path, thorough=False).files}
    assert quick == expected | {"hostile.ckpt": "present", "other.onnx": "present"}


def test_the_command_lists_and_says_what_to_do(tmp_path, capsys):
    assert main(["models", "--root", str(tmp_path)]) == int(not (WEIGHTS / MANIFEST).exists())
    said = capsys.readouterr().out
    assert "missing" in said and "CreativeML OpenRAIL-M" in said
    assert "adaface models --download mse-vae; or by hand: put vae-ft-mse-840000-ema-pruned.safetensors of" in said
    assert "package://adaface.miniature/weights/clip" in said
    assert main(["models", "bisenet", "--root", str(tmp_path)]) == 1  # asked for by name
    torch.save({"weight": torch.zeros(3)}, tmp_path / "79999_iter.pth")
    assert main(["models", "--check", "bisenet", "--root", str(tmp_path)]) == 1
    assert "wrong size: 79999_iter.pth" in capsys.readouterr().out


# Downloads


class Hub(ThreadingHTTPServer):
    """Files under /REPO/resolve/REVISION/PATH with the headers of the Hugging Face hub."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.claims: dict[str, str] = {}  # sha256 that is claimed of a file
        self.gated: set[str] = set()
        self.sent: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"
    refusals: ClassVar = {403: "GatedRepo", 404: "EntryNotFound"}

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        repo, _, rest = unquote(self.path).lstrip("/").partition("/resolve/")
        name = f"{repo}/{rest.partition('/')[2]}"
        content = self.server.files.get(name, b"")
        status = 403 if repo in self.server.gated else 200 if name in self.server.files else 404
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        if status != 200:
            self.send_header("X-Error-Code", self.refusals[status])
            content = b""
        elif name.endswith(".json"):  # small files have a git hash
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        else:
            self.send_header("X-Linked-Etag", f'"{self.server.claims.get(name, digest(content))}"')
            self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
            self.server.sent.append(name)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    with Hub(files) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    files = {
        "some/model/config.json": b"{}",
        "some/model/deep/model.safetensors": WEIGHTS_FILE,
        "facebook/dino-vits16/config.json": b"{}",
        "facebook/dino-vits16/preprocessor_config.json": b"{}",
        "facebook/dino-vits16/model.safetensors": WEIGHTS_FILE,
    }
    with serving(files) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server


TOY = artefact(ModelFile("config.json"), ModelFile("deep/model.safetensors"))


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_download_puts_the_files_in_place_and_remembers_their_hashes(hub, tmp_path):
    brought = download(TOY, tmp_path, say=lambda _: None)
    assert names_below(tmp_path) == [RECORD, "toy/config.json", "toy/deep/model.safetensors"]
    assert [path.name for path in brought] == ["config.json", "model.safetensors"]
    assert (tmp_path / "toy" / "deep" / "model.safetensors").read_bytes() == WEIGHTS_FILE
    record = json.loads((tmp_path / RECORD).read_text())["toy/deep/model.safetensors"]
    assert record == {"repo": "some/model", "revision": COMMIT, "sha256": digest(WEIGHTS_FILE)}
    assert look(TOY, tmp_path, thorough=True).state == "present"
    assert download(TOY, tmp_path, say=lambda _: None) == []


def test_only_what_is_missing_or_broken_is_loaded_again(hub, tmp_path):
    download(TOY, tmp_path, say=lambda _: None)
    weights = tmp_path / "toy" / "deep" / "model.safetensors"
    weights.write_bytes(WEIGHTS_FILE[:-4] + b"\0\0\0\1")  # same length; found by the remembered hash
    assert look(TOY, tmp_path, thorough=True).state == "wrong sha256"
    hub.sent.clear()
    assert download(TOY, tmp_path, say=lambda _: None) == [weights]
    assert hub.sent == ["some/model/deep/model.safetensors"]
    assert weights.read_bytes() == WEIGHTS_FILE


@pytest.mark.parametrize("who", ["the hub", "the registry"])
def test_a_file_with_another_hash_is_not_put_in_place(hub, tmp_path, who):
    toy = TOY
    if who == "the hub":
        hub.claims["some/model/deep/model.safetensors"] = "0" * 64
    else:
        toy = artefact(ModelFile("config.json"), ModelFile("deep/model.safetensors", "0" * 64))
    with pytest.raises(RuntimeError, match=rf"has sha256 {digest(WEIGHTS_FILE)}, {who} says 0000"):
        download(toy, tmp_path, say=lambda _: None)
    assert not (tmp_path / "toy").exists()  # nor the file that was sound: whole or not at all
    if who == "the hub":
        hub.claims.clear()
        download(toy, tmp_path, say=lambda _: None)
        assert look(toy, tmp_path, thorough=True).state == "present"


def test_a_repository_that_lacks_a_file_or_wants_a_login_is_explained(hub, tmp_path):
    toy = artefact(ModelFile("config.json"), ModelFile("absent.bin"))
    with pytest.raises(ConnectionError, match=r"did not give it .* By hand: put config.json, absent.bin of https"):
        download(toy, tmp_path, say=lambda _: None)
    hub.gated.add("some/gated")
    gated = artefact(ModelFile("config.json"), repo="some/gated")
    with pytest.raises(
        ConnectionError, match=r"accept the licence at https://huggingface\.co/some/gated, then run `hf"
    ):
        download(gated, tmp_path / "other", say=lambda _: None)
    assert not (tmp_path / "toy").exists() and names_below(tmp_path / "other") == []


def test_what_is_shipped_is_not_downloaded(tmp_path):
    with pytest.raises(ValueError, match="comes with the package; install the package anew"):
        download(registry()["miniature-clip"], tmp_path)


def test_the_command_downloads_takes_what_there_is_and_checks(hub, tmp_path, capsys):
    root = str(tmp_path)
    assert main(["models", "--download", "dino", "--root", root]) == 0
    assert "it has model.safetensors instead" in capsys.readouterr().out
    assert names_below(tmp_path / "dino-vits16") == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert main(["models", "--check", "dino", "--root", root]) == 0
    assert main(["models", "--download", "miniature-clip", "--root", root]) == 2


def test_offline_the_way_by_hand_is_shown(tmp_path):
    """HF_HUB_OFFLINE is read when huggingface_hub is imported, so this takes a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "models", "--download", "mse-vae", "dino", "--root", str(tmp_path)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE is set" in done.stderr and "sd-vae-ft-mse-original into" in done.stderr
    assert "dino was not downloaded" in done.stderr  # each of them
    assert names_below(tmp_path) == []
