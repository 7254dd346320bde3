"""What is drawn with is copied first, as a training deletes its older checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adaface.encoder.model import AdaFaceEncoder
from adaface.evaluation.methods.encoder import encoder_files
from data_pipeline.storage import Storage
from ray_jobs.config_file import load
from ray_jobs.evaluate_config import EvaluateConfig
from ray_jobs.evaluate_encoders import with_encoders_kept
from ray_jobs.fetched import fetched
from tests.tiny_evaluation import make_encoder


@pytest.fixture
def kept(tmp_path: Path, project: Path) -> Callable[..., str]:
    """kept(path of an encoder, output) is the path that it is drawn with."""

    def place(path: Path, output: str | None = None) -> str:
        output = output or str(tmp_path / "out")
        method = f"methods=[{{name: ours, kind: encoder, path: '{path}'}}]"
        config = load(EvaluateConfig, project / "configs/evaluate-miniature.yaml", [f"output='{output}'", method])
        (found,) = with_encoders_kept(config, Storage(output)).methods
        assert found.kind == "encoder"
        return found.path

    return place


def test_the_newest_is_copied_and_stays(kept: Callable[..., str], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    older = make_encoder(runs / "checkpoint_10" / "encoder")
    files = encoder_files(older)
    copy = Path(kept(runs))
    assert copy.parent == tmp_path / "out" / "encoders" and copy.name.startswith("checkpoint_10-encoder-")
    written = (copy / "config.json").stat().st_mtime_ns
    assert kept(runs) == str(copy) and (copy / "config.json").stat().st_mtime_ns == written

    newest = make_encoder(runs / "checkpoint_20" / "encoder", seed=2)
    shutil.rmtree(older)
    assert encoder_files(copy) == files
    assert AdaFaceEncoder.from_pretrained(copy)  # with its teacher

    assert encoder_files(Path(kept(runs))) == encoder_files(newest)
    assert not copy.exists()  # nothing draws with it any more


def test_what_is_no_folder_of_checkpoints_stays_where_it_is(kept: Callable[..., str], tmp_path: Path) -> None:
    whole = make_encoder(tmp_path / "runs" / "step-1")
    assert kept(whole) == str(whole)
    # a copy would not find this one's teacher
    beside = AdaFaceEncoder.from_pretrained(whole).save_pretrained(tmp_path / "runs" / "step-2", teacher="reference")
    assert kept(tmp_path / "runs") == str(beside)
    assert not [*(tmp_path / "out").rglob("*.safetensors")]


def test_a_copy_in_an_output_of_another_kind(kept: Callable[..., str], tmp_path: Path) -> None:
    encoder = make_encoder(tmp_path / "runs" / "step-1")
    copy = kept(tmp_path / "runs", f"file://{tmp_path}/out")
    assert copy.startswith(f"file://{tmp_path}/out/encoders/step-1-")
    assert encoder_files(Path(fetched(copy))) == encoder_files(encoder)
