"""Packs are made of tiny graphs here; what decides is their shapes, as for real ones."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from adaface.perception.pack import ROLES, resolve_pack, sha256


def test_every_role_is_known_by_its_shapes(tmp_path, make_role):
    for role in ROLES:
        make_role(tmp_path / f"{role[::-1]}.onnx", role)  # names do not matter
    pack = resolve_pack(tmp_path)
    assert pack.folder == tmp_path
    assert pack.files == {role: tmp_path / f"{role[::-1]}.onnx" for role in ROLES}


def test_real_pack(shared):
    pack = resolve_pack(shared / "models" / "real_pack")
    assert {role: path.name for role, path in pack.files.items()} == {
        "detection": "det_2.5g.onnx",
        "recognition": "rec_mobilefacenet_128.onnx",
    }


def test_one_nested_folder_is_entered(tmp_path, make_role):
    nested = tmp_path / "antelopev2" / "antelopev2"
    make_role(nested / "det.onnx", "detection")
    make_role(nested / "rec.onnx", "recognition")
    (tmp_path / "antelopev2" / "__MACOSX").mkdir()
    assert resolve_pack(tmp_path / "antelopev2").folder == nested


def test_several_nested_packs_are_an_error(tmp_path, make_role):
    for name in ("antelopev2", "buffalo_l"):
        make_role(tmp_path / name / "det.onnx", "detection")
    with pytest.raises(ValueError, match=r"antelopev2, buffalo_l.*perception\.pack"):
        resolve_pack(tmp_path)


def test_arc2face_recogniser_wins_with_a_word(tmp_path, make_role, caplog):
    make_role(tmp_path / "det.onnx", "detection")
    for name in ("glintr100.onnx", "arcface.onnx", "aaa.onnx"):
        make_role(tmp_path / name, "recognition")
    with caplog.at_level(logging.WARNING):
        assert resolve_pack(tmp_path).files["recognition"].name == "arcface.onnx"
    assert "glintr100.onnx" in caplog.text
    assert resolve_pack(tmp_path, "glintr100.onnx").files["recognition"].name == "glintr100.onnx"


def test_undecided_recognisers_are_an_error_that_names_them_and_the_key(tmp_path, make_role):
    make_role(tmp_path / "det.onnx", "detection")
    for name in ("glintr100.onnx", "w600k_r50.onnx"):
        make_role(tmp_path / name, "recognition")
    with pytest.raises(ValueError, match=r"glintr100\.onnx, w600k_r50\.onnx.*perception\.recognition_file"):
        resolve_pack(tmp_path)
    for wrong in ("absent.onnx", "det.onnx"):
        with pytest.raises(ValueError, match=rf"'{wrong}'.*glintr100\.onnx, w600k_r50\.onnx"):
            resolve_pack(tmp_path, wrong)


def test_models_of_other_kinds_are_ignored_with_a_word(tmp_path, make_role, make_onnx, caplog):
    make_role(tmp_path / "det.onnx", "detection")
    make_role(tmp_path / "rec.onnx", "recognition")
    make_onnx(tmp_path / "swapper.onnx", [(1, 3, 128, 128), (1, 512)], [(1, 3, 128, 128)])
    make_onnx(tmp_path / "parser.onnx", [(1, 3, 512, 512)], [(1, 19, 512, 512)])  # square, but no embedding comes out
    make_onnx(tmp_path / "odd.onnx", [(1, 3, 100, 100)], [(1, 512)])
    make_onnx(tmp_path / "emotion.onnx", [(1, 3, 96, 96)], [(1, 7)])
    with caplog.at_level(logging.INFO):
        assert set(resolve_pack(tmp_path).files) == {"detection", "recognition"}
    for name in ("swapper", "parser", "odd", "emotion"):
        assert f"{name}.onnx" in caplog.text


def test_first_of_several_detectors_by_name(tmp_path, make_role, caplog):
    for name in ("det_b.onnx", "det_a.onnx"):
        make_role(tmp_path / name, "detection")
    make_role(tmp_path / "rec.onnx", "recognition")
    assert resolve_pack(tmp_path).files["detection"].name == "det_a.onnx"
    assert "det_a.onnx" in caplog.text


def test_missing_folder_and_folder_without_models(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist; set `perception\.pack`"):
        resolve_pack(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"found: nothing"):
        resolve_pack(tmp_path)
    (tmp_path / "model.pth").touch()
    with pytest.raises(FileNotFoundError, match=r"found: model\.pth"):
        resolve_pack(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"is a file"):
        resolve_pack(tmp_path / "model.pth")


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 261\n", b"\x00\xff" * 50]
)
def test_unreadable_file(tmp_path, make_role, content):
    make_role(tmp_path / "det.onnx", "detection")
    make_role(tmp_path / "rec.onnx", "recognition")
    (tmp_path / "glintr100.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=rf"glintr100\.onnx \({len(content)} bytes\) is not a readable ONNX file"):
        resolve_pack(tmp_path)


def test_truncated_model_is_unreadable(tmp_path, shared):
    real = (shared / "models" / "real_pack" / "det_2.5g.onnx").read_bytes()
    (tmp_path / "det.onnx").write_bytes(real[: len(real) // 2])
    with pytest.raises(ValueError, match=r"det\.onnx .* is not a readable ONNX file"):
        resolve_pack(tmp_path)


def test_all_problems_are_told_at_once(tmp_path, make_role):
    make_role(tmp_path / "2d106det.onnx", "landmark_2d_106")
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(ValueError) as caught:
        resolve_pack(tmp_path)
    text = str(caught.value)
    assert "broken.onnx" in text and "no face detector" in text and "no face recognition model" in text
    assert "2d106det.onnx (landmark_2d_106)" in text


def test_sha256_follows_the_file(tmp_path, make_role):
    detector = make_role(tmp_path / "det.onnx", "detection")
    make_role(tmp_path / "rec.onnx", "recognition")
    expected = hashlib.sha256(detector.read_bytes()).hexdigest()
    assert resolve_pack(tmp_path).sha256(("detection", "genderage")) == {"detection": expected}
    other = Path(tmp_path / "file")
    for content in (b"one", b"three"):
        other.write_bytes(content)
        assert sha256(other) == hashlib.sha256(content).hexdigest()
