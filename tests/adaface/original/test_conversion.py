"""`adaface convert`: an original checkpoint becomes an encoder folder that gives the original's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.encoder.model import AdaFaceEncoder
from adaface.original.checkpoints import read_original
from adaface.original.conversion import convert, report
from flows.cli import main
from tests.adaface.encoder.golden_files import Golden
from tests.adaface.encoder.golden_generators import outputs_of_checkpoint
from tests.adaface.original import tiny_original
from tests.adaface.original.hostile_pickles import archive, call, named, pickled


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a teacher of few words."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=tiny_original.WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=8,
    )
    folder = tmp_path_factory.mktemp("models") / "teacher"
    CLIPTextModel(config).half().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with everything: several keys per token, cached pads, a background."""
    pads = torch.rand(tiny_original.WINDOW, tiny_original.WIDTH)
    subject = tiny_original.subject(multipliers=(2, 1), layer_weights=torch.rand(3, tiny_original.WIDTH), pads=pads)
    generators = {"z": subject, "y": tiny_original.background()}
    return tiny_original.save(tmp_path_factory.mktemp("run") / "x.pt", generators, do_zero_shot=True)


def test_the_folder_holds_the_files_weights(original: Path, teacher: Path, tmp_path: Path):
    found = convert(original, tmp_path / "out", teacher=str(teacher), face_pack="antelopev2")
    encoder = AdaFaceEncoder.from_pretrained(tmp_path / "out")
    assert encoder.config.multipliers == (2, 1) and encoder.config.face_pack == "antelopev2"
    for name, tensor in encoder.inverse.state_dict().items():
        assert torch.equal(tensor, found.inverse[name]), name
    assert encoder.background is not None and found.pad_table is not None
    for name, tensor in encoder.background.state_dict().items():
        assert torch.equal(tensor, found.background[name]), name
    assert torch.equal(encoder.layer_weights, found.layer_weights)
    assert torch.equal(encoder.pads(), found.pad_table)
    # not what the weights would give now: the cached table is older
    assert not torch.allclose(encoder.pads()[0], encoder.inverse.embeddings.token_embedding.weight[49407], atol=0.1)
    ids = torch.nn.functional.normalize(torch.randn(2, 512), dim=1)
    assert encoder(ids).shape == (2, 16, tiny_original.WIDTH)


def test_the_teacher_may_stay_where_it_is(original: Path, teacher: Path, tmp_path: Path):
    convert(original, tmp_path / "out", teacher=str(teacher), copy_teacher=False, background=False)
    assert not (tmp_path / "out" / "teacher").exists()
    encoder = AdaFaceEncoder.from_pretrained(tmp_path / "out")
    assert encoder.background is None and encoder.config.teacher == str(teacher)


def test_a_teacher_that_does_not_fit_or_is_not_there(original: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="its teacher is not at"):
        convert(original, tmp_path / "out", teacher=str(tmp_path / "nowhere"))
    config = CLIPTextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    CLIPTextModel(config).save_pretrained(tmp_path / "narrow")
    with pytest.raises(ValueError, match="is 32 wide, the encoder 512"):
        convert(original, tmp_path / "out", teacher=str(tmp_path / "narrow"))
    assert not (tmp_path / "out").exists()


def test_the_report_names_what_was_dropped(original: Path):
    lines = report(read_original(original))
    text = "\n".join(lines)
    assert lines[0].startswith("subject 'z': 2 layers of width 512, keys per token [2, 1], ")
    assert "pad table: as cached in the file" in lines and "background: 'y'" in lines
    assert "    pos_embs  1 x 3 x 512" in lines and "    obj_proj_in.0.weight  4 x 6" in lines
    assert "    prompt2token_proj.text_model.embeddings.position_ids  1 x 77" in lines
    assert "oldest layer first), means of 512 channels" in text
    assert lines[-1] == "not part of the encoder, left out: do_zero_shot"


def test_the_command(original: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert main(["convert", str(original), str(out), "--teacher", str(teacher), "--subject", "z"]) == 0
    printed = capsys.readouterr().out
    assert "never used by the original, dropped: 7 tensors" in printed and f"{out}: written" in printed
    assert {path.name for path in out.iterdir()} >= {"config.json", "adaface.safetensors", "README.md", "teacher"}
    assert main(["convert", str(original), str(out), "--teacher", str(teacher), "--subject", "x"]) == 2
    assert "it has no subject 'x'; it has 'z'" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "nothing.pt"), str(out)]) == 2
    assert "there is no such file" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.jpg").write_bytes(b"")
    assert main(["convert", str(original), str(tmp_path / "other"), "--teacher", str(teacher)]) != 0
    assert "holds other files" in capsys.readouterr().err


def test_the_command_runs_nothing_of_a_hostile_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bait = tmp_path / "bait"
    path = archive(tmp_path / "x.pt", pickled(call(named("posix", "system"), f"mkdir '{bait}'")))
    assert main(["convert", str(path), str(tmp_path / "out")]) == 2
    assert "it names posix.system" in capsys.readouterr().err
    assert not bait.exists() and not (tmp_path / "out").exists()


def test_golden_checkpoints_give_the_originals_vectors(shared: Path, tmp_path: Path):
    """Through the folder on disk: core, vectors, pads, prompt states and conditioning within 1e-5 of the original."""
    folder = shared / "golden"
    encoders = Golden(folder, "case5_encoders.safetensors")
    encoders.text_model("teacher/").save_pretrained(tmp_path / "teacher")
    text = encoders.text_model("text_encoder/")
    for file, tag in (("x1", "x1"), ("x1_oldnames", "x1"), ("x4", "x4")):
        path = folder / f"case5_ckpt_{file}.pt"
        convert(path, tmp_path / "out", teacher=str(tmp_path / "teacher"), copy_teacher=False)
        encoder = AdaFaceEncoder.from_pretrained(tmp_path / "out")
        golden = Golden(folder, f"case5_ckpt_{tag}.safetensors")
        checks = list(outputs_of_checkpoint(golden, tag, encoder, text))
        errors = {check.name: (check.error, check.tolerance) for check in checks}
        print(file, errors)
        assert errors and all(error <= tolerance for error, tolerance in errors.values()), file
