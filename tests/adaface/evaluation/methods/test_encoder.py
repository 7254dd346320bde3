"""Encoders draw as `load_adaface` does, and the newest of a folder of checkpoints is found."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from adaface.encoder.files import CONFIG, WEIGHTS
from adaface.encoder.model import AdaFaceEncoder
from adaface.evaluation.config import EncoderMethodConfig
from adaface.evaluation.methods.encoder import encoder_files, newest_encoder
from adaface.evaluation.methods.open import open_method
from adaface.shipped_files import sha256
from adaface.subjects.subject import load_adaface
from tests.adaface.evaluation.methods.tiny_methods import drawn_by, make_encoder, requests


def configured(path: Path, **settings: float) -> EncoderMethodConfig:
    return EncoderMethodConfig(kind="encoder", name="mine", path=str(path), **settings)


def test_it_draws_what_load_adaface_draws(base, generation, encoder_folder, anna, ids):
    method = open_method(configured(encoder_folder, id_scale=1.5), generation)
    (picture,) = method.draw(method.prepare(anna, [], ids), requests(8))
    subject = load_adaface(base.pipe, encoder_folder).subject(ids=ids, id_scale=1.5)
    states = subject.prompt("a photo of a z on a beach", negative_prompt="a drawing", layer_weights=(1, 1))
    assert np.array_equal(picture, drawn_by(base.pipe, generation, 8, **states))


def test_the_face_is_in_the_picture_and_the_class_word_is_not(generation, encoder_folder, anna, ids):
    method = open_method(configured(encoder_folder), generation)
    prepared = method.prepare(anna, [], ids)
    (picture,) = method.draw(prepared, requests(8))
    assert np.array_equal(method.draw(prepared, requests(8, word="old man"))[0], picture)
    assert not np.array_equal(method.draw(method.prepare(anna, [], -ids), requests(8))[0], picture)
    assert not np.array_equal(method.draw(prepared, requests(9))[0], picture)


def test_noise_is_drawn_once_for_a_subject_and_always_the_same(generation, encoder_folder, anna, ids):
    noisy = open_method(configured(encoder_folder, noise=0.5), generation)
    vectors = [noisy.prepare(subject, [], ids).vectors["z"] for subject in (anna, anna, replace(anna, name="bea"))]
    quiet = open_method(configured(encoder_folder), generation).prepare(anna, [], ids).vectors["z"]
    assert vectors[0].equal(vectors[1])
    assert not vectors[0].equal(vectors[2]) and not vectors[0].equal(quiet)


def test_what_it_cannot_read_is_refused_by_name(generation, encoder_folder, anna, ids):
    method = open_method(configured(encoder_folder), generation)
    with pytest.raises(ValueError, match="method mine: subject anna: there is no ID embedding"):
        method.prepare(anna, [], np.zeros_like(ids))
    with pytest.raises(ValueError, match=r"method mine: .*512 values, the encoder reads 64"):
        method.prepare(anna, [], np.ones((1, 512), np.float32))


def test_provenance_tells_checkpoints_apart(base, generation, encoder_folder, tmp_path):
    said = open_method(configured(encoder_folder.parent), generation).provenance()
    assert said["folder"] == "step-10"
    assert said["encoder"][WEIGHTS] == sha256(encoder_folder / WEIGHTS)
    assert said["encoder"]["teacher/model.safetensors"] == sha256(encoder_folder / "teacher" / "model.safetensors")
    assert "unet/diffusion_pytorch_model.safetensors" in said["files"]
    torch.manual_seed(1)
    other = make_encoder(base).save_pretrained(tmp_path / "other")
    assert encoder_files(other)[WEIGHTS] != said["encoder"][WEIGHTS]


def test_files_of_a_teacher_that_lies_elsewhere(base, encoder_folder, tmp_path):
    """Saved by reference, as checkpoints of a run are; what a trainer leaves beside an encoder is not its own."""
    encoder = AdaFaceEncoder.from_pretrained(encoder_folder)
    saved = encoder.save_pretrained(tmp_path / "step-20", teacher="reference")
    (saved / "trainer").mkdir()
    (saved / "trainer" / "optimizer.safetensors").write_bytes(b"large")
    files = encoder_files(saved)
    assert files["teacher/model.safetensors"] == sha256(encoder_folder / "teacher" / "model.safetensors")
    assert set(files) == {CONFIG, WEIGHTS, "teacher/config.json", "teacher/model.safetensors"}


class TestNewestEncoder:
    @pytest.fixture
    def place(self, encoder_folder, tmp_path):
        """place(name, age in seconds) puts an encoder there."""

        def put(name: str, age: float = 0) -> Path:
            folder = Path(shutil.copytree(encoder_folder, tmp_path / name))
            for file in (CONFIG, WEIGHTS):
                os.utime(folder / file, (1e9 - age, 1e9 - age))
            return folder

        return put

    def test_an_encoder_is_itself(self, encoder_folder):
        assert newest_encoder(encoder_folder) == encoder_folder

    def test_the_highest_step_wins_whatever_was_written_last(self, place, tmp_path):
        place("step-500", age=0)
        newest = place("step-1000", age=60)
        place("best", age=0)  # no step: nobody knows how old its weights are
        assert newest_encoder(tmp_path) == newest
        assert newest_encoder(str(tmp_path)) == newest

    def test_without_numbers_the_file_written_last_wins(self, place, tmp_path):
        place("alpha", age=60)
        newest = place("beta", age=5)
        place("gamma", age=90)
        assert newest_encoder(tmp_path) == newest

    def test_checkpoints_of_several_stages_and_in_sub_folders(self, place, tmp_path):
        place("stage-1/step-9000/encoder")
        newest = place("stage-2/step-300/encoder")
        place("stage-2/step-40/encoder")
        assert newest_encoder(tmp_path) == newest

    @pytest.mark.parametrize("config", ["sd15", "miniature"])
    def test_of_a_pipeline_it_is_the_last_rounds(self, place, tmp_path, project, config):
        """Whatever was written last: a round may be trained again, and has more steps than the one after it."""
        rounds = yaml.safe_load((project / f"configs/{config}.yaml").read_text())["pipeline"]["rounds"]
        names = [each["name"] for each in rounds]
        for age, name in enumerate(names):
            folders = [
                place(f"{name}/checkpoint_{60_000 // (age + 1):08d}/encoder", age),
                place(f"{name}/encoder", age),
            ]
            assert newest_encoder(tmp_path) in folders, name

    def test_unfinished_folders_and_those_without_weights_do_not_count(self, place, tmp_path):
        newest = place("step-10")
        place(".step-30.1234.new")
        (tmp_path / "step-20").mkdir()
        (place("step-40") / WEIGHTS).unlink()
        assert newest_encoder(tmp_path) == newest

    @pytest.mark.parametrize("file", [CONFIG, WEIGHTS, f"teacher/{CONFIG}", "teacher/model.safetensors"])
    def test_one_that_is_being_copied_does_not_count(self, place, tmp_path, file):
        """A training copies a checkpoint file by file to where it is looked for."""
        newest, half = place("checkpoint_10/encoder"), place("checkpoint_20/encoder")
        os.truncate(half / file, (half / file).stat().st_size // 2)
        assert newest_encoder(tmp_path) == newest
        (half / file).unlink()
        assert newest_encoder(tmp_path) == newest
        shutil.rmtree(newest)
        with pytest.raises(FileNotFoundError, match="there is no encoder"):
            newest_encoder(tmp_path)

    def test_of_several_folders_the_one_written_last_counts(self, place, tmp_path):
        """Their names say nothing of each other, whatever their numbers are."""
        place("there/stage1/checkpoint_900/encoder", age=0)  # not the newest by its name
        older = place("there/stage2/checkpoint_100/encoder", age=60)
        folders = [str(tmp_path / name) for name in ("here", "there", "nowhere")]
        assert newest_encoder(folders) == older
        newest = place("here/stage1/checkpoint_5/encoder", age=30)
        assert newest_encoder(folders) == newest_encoder(folders[::-1]) == newest
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; there is no folder .*nor here"):
            newest_encoder([folders[2], str(tmp_path / "nor here")])

    def test_none_is_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no encoder \(config.json and adaface.safetensors\)"):
            newest_encoder(tmp_path)
        with pytest.raises(FileNotFoundError, match="no such folder of an encoder"):
            newest_encoder(tmp_path / "nothing")

    def test_one_of_another_format_is_named(self, place, tmp_path):
        (place("step-10") / CONFIG).write_text("{}")
        with pytest.raises(ValueError, match=r"step-10.*not that of an encoder"):
            newest_encoder(tmp_path)
