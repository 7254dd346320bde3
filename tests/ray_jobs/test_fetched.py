"""Encoders in an object store, for libraries that read folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.storage import Storage
from ray_jobs.fetched import fetched


def test_a_folder_is_copied_once_and_again_when_it_has_changed(
    s3: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = f"{s3()}/runs/stage1/encoder"
    store = Storage(place)
    store.write_bytes("config.json", b"{}")
    store.write_bytes("teacher/model.safetensors", b"weights")
    first = Path(fetched(place))
    assert (first / "config.json").read_bytes() == b"{}"
    assert (first / "teacher" / "model.safetensors").read_bytes() == b"weights"
    assert fetched(place) == str(first)

    store.write_bytes("config.json", b'{"newer": true}')
    second = Path(fetched(place))
    assert second != first and (second / "config.json").read_bytes() == b'{"newer": true}'
    assert sorted(path.name for path in first.parent.iterdir()) == sorted([first.name, second.name])  # no halves


def test_what_is_here_already_stays_where_it_is(tmp_path: Path) -> None:
    for path in (str(tmp_path), "relative/folder", "someone/on-the-hub", "package://adaface.miniature/weights/pack"):
        assert fetched(path) == path


def test_nothing_in_the_store_is_said(s3: Callable[[], str]) -> None:
    place = f"{s3()}/nothing"
    with pytest.raises(FileNotFoundError, match="there are no files"):
        fetched(place)
