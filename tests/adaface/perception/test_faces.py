"""Faces, against insightface's own results on the same photos."""

from __future__ import annotations

import json
import shutil
import warnings
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from insightface.app import FaceAnalysis
from insightface.utils import face_align

from adaface.perception.config import PerceptionConfig
from adaface.perception.faces import Face, FaceAnalyser, with_embedding
from adaface.perception.onnx_session import session_options

# A plain pass of the detector at 640 px misses these portraits: their faces are too large for it.
TIGHT = ("caradelevingne/rotten-tomatoes", "iainarmitage/rottontomatoes", "jenniferlawrence/aug07-2022")


def original_key(face: Face) -> float:
    """What the original ranks faces by: the parentheses are missing."""
    x1, y1, x2, y2 = face.bbox
    return (x2 - x1) * y2 - y1


@pytest.fixture(scope="module")
def insightface_app(pack_folder) -> FaceAnalysis:
    app = FaceAnalysis(str(pack_folder), providers=["CPUExecutionProvider"], sess_options=session_options(1))
    app.prepare(ctx_id=0, det_size=(640, 640))
    return app


@pytest.fixture(scope="module")
def dynamic_pack(pack_folder, tmp_path_factory):
    """The same detector with a free input size, as most published ones have, and a recogniser of fixed batch 1."""
    folder = tmp_path_factory.mktemp("dynamic")
    detector = onnx.load(str(pack_folder / "det_2.5g.onnx"))
    for axis, name in ((2, "height"), (3, "width")):
        dimension = detector.graph.input[0].type.tensor_type.shape.dim[axis]
        dimension.ClearField("dim_value")
        dimension.dim_param = name
    onnx.save(detector, str(folder / "det.onnx"))
    recogniser = onnx.load(str(pack_folder / "rec_mobilefacenet_128.onnx"))
    for value in (*recogniser.graph.input, *recogniser.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(recogniser, str(folder / "rec.onnx"))
    return folder


@pytest.mark.filterwarnings("ignore:`estimate` is deprecated")
@pytest.mark.parametrize("name", ["keanureeves/wiki", "lisa/nov6-2019", "michelleyeoh/feb22-2016"])
def test_equal_to_insightface_on_bgr(analyser, insightface_app, photo, name):
    rgb = photo(name)
    expected = insightface_app.get(np.ascontiguousarray(rgb[:, :, ::-1]))
    (result,) = analyser.analyse([rgb])
    assert (result.detector_size, result.border) == (640, 0.0)
    assert len(result.faces) == len(expected) == 1
    face = result.faces[0]
    np.testing.assert_array_equal(face.bbox, expected[0].bbox)
    np.testing.assert_array_equal(face.landmarks, expected[0].kps)
    assert face.score == pytest.approx(float(expected[0].det_score), abs=0)
    np.testing.assert_allclose(result.embedding, expected[0].normed_embedding, atol=1e-6)
    assert result.embedding_norm == pytest.approx(float(expected[0].embedding_norm), rel=1e-5)
    assert [a.dtype for a in (face.bbox, face.landmarks, result.embedding)] == [np.float32] * 3
    assert np.linalg.norm(result.embedding) == pytest.approx(1, abs=1e-6)
    crop = face_align.norm_crop(rgb, expected[0].kps, image_size=112)
    np.testing.assert_array_equal(result.aligned, crop)  # RGB, like the picture
    np.testing.assert_array_equal(with_embedding(result, analyser.embed([crop])[0]).embedding, result.embedding)
    # the original's inference passed RGB on; that gives another box and another embedding
    swapped = insightface_app.get(np.ascontiguousarray(rgb))[0]
    assert np.abs(swapped.bbox - face.bbox).max() > 0.01
    assert swapped.normed_embedding @ result.embedding < 0.99
    np.testing.assert_array_equal(analyser.analyse([rgb[:, :, ::-1]])[0].faces[0].bbox, swapped.bbox)


def test_golden_face_choice(shared):
    cases = json.loads((shared / "golden" / "manifest.json").read_text())["cases"]
    choices = next(case for case in cases if case["case"] == "5c")["notes"]["face_choice"]
    differing = 0
    for choice in choices:
        faces = [Face(np.array(box, np.float32), 0.9, np.zeros((5, 2), np.float32)) for box in choice["boxes"]]
        assert max(range(len(faces)), key=lambda i: faces[i].area) == choice["largest_by_area"]
        assert max(range(len(faces)), key=lambda i: original_key(faces[i])) == choice["selected"]
        differing += choice["selected"] != choice["largest_by_area"]
    assert differing  # else the cases prove nothing


def test_largest_face_is_by_area(analyser, photo):
    above, below = photo("keanureeves/wiki"), photo("gabrielleunion/dec01-2022")
    canvas = np.full((1000, 1000, 3), 128, np.uint8)
    canvas[:540, :540] = cv2.resize(above, (540, 540), interpolation=cv2.INTER_AREA)
    canvas[560:, 560:] = cv2.resize(below, (440, 440), interpolation=cv2.INTER_AREA)
    alone, other, both = analyser.analyse([above, below, canvas])
    assert len(both.faces) == 2
    assert [face.area for face in both.faces] == sorted((face.area for face in both.faces), reverse=True)
    assert original_key(both.faces[1]) > original_key(both.faces[0])  # the original would take the lower face
    assert both.embedding @ alone.embedding > 0.9
    assert both.embedding @ other.embedding < 0.3


@pytest.mark.parametrize("name", TIGHT)
def test_retry_ladder_finds_tight_portraits(analyser, insightface_app, photo, name):
    rgb = photo(name)
    boxes, _ = insightface_app.det_model.detect(np.ascontiguousarray(rgb[:, :, ::-1]))
    assert len(boxes) == 0
    result, peer = analyser.analyse([rgb, photo(f"{name.split('/')[0]}/{PEER[name]}")])
    assert (result.detector_size, result.border) == (320, 0.0)
    assert result.embedding @ peer.embedding > 0.5


PEER = {TIGHT[0]: "Sep-2022", TIGHT[1]: "mar18-2022", TIGHT[2]: "sep24-2019"}


def test_a_border_finds_faces_cut_at_the_box_and_maps_back(pack_folder, analyser, photo):
    rgb = photo("donnieyen/aug23-2017")
    whole = analyser.analyse([rgb])[0].faces[0]
    x1, y1, x2, y2 = (int(value) for value in whole.bbox)
    crop = rgb[y1:y2, x1:x2]
    plain = FaceAnalyser(PerceptionConfig(pack=str(pack_folder), device="cpu", detector_sizes=(640,), border=0))
    with_border = FaceAnalyser(PerceptionConfig(pack=str(pack_folder), device="cpu", detector_sizes=(640,)))
    assert plain.analyse([crop])[0].faces == []
    (result,) = with_border.analyse([crop])
    assert (result.detector_size, result.border) == (640, 0.25)
    shift = result.faces[0].landmarks + np.array([x1, y1]) - whole.landmarks
    assert np.abs(shift).max() < 0.03 * (x2 - x1)


@pytest.mark.parametrize("part", [np.s_[:, 150:650], np.s_[120:620, :]], ids=["tall", "wide"])
def test_smaller_rungs_agree_with_the_first(pack_folder, analyser, photo, part):
    rgb = np.ascontiguousarray(photo("ryangosling/uncommonschools-2018")[part])
    expected = analyser.analyse([rgb])[0]
    assert expected.detector_size == 640
    face = expected.faces[0]
    width = face.bbox[2] - face.bbox[0]
    for size in (320, 160):
        small = FaceAnalyser(PerceptionConfig(pack=str(pack_folder), device="cpu", detector_sizes=(size,)))
        result = small.analyse([rgb])[0]
        assert (result.detector_size, result.border) == (size, 0.0)
        assert np.abs(result.faces[0].landmarks - face.landmarks).max() < 0.05 * width
        assert result.embedding @ expected.embedding > 0.9


def test_detector_of_free_input_size(dynamic_pack, pack_folder, analyser, photo):
    rgb = photo("keanureeves/wiki")
    fixed, free = (
        analyser.analyse([rgb])[0],
        FaceAnalyser(PerceptionConfig(pack=str(dynamic_pack), device="cpu")).analyse([rgb])[0],
    )
    np.testing.assert_array_equal(free.faces[0].bbox, fixed.faces[0].bbox)
    np.testing.assert_allclose(free.embedding, fixed.embedding, atol=1e-6)
    configs = [
        PerceptionConfig(pack=str(folder), device="cpu", detector_sizes=(320,))
        for folder in (dynamic_pack, pack_folder)
    ]
    free, fixed = (FaceAnalyser(config).analyse([rgb])[0] for config in configs)
    assert free.detector_size == fixed.detector_size == 320
    np.testing.assert_allclose(free.faces[0].landmarks, fixed.faces[0].landmarks, atol=2)


def test_batches_equal_single_faces(analyser, dynamic_pack, photo):
    photos = [photo(name) for name in ("lisa/nov6-2019", "keanureeves/wiki", "masatosakai/6")]
    nothing = np.zeros((64, 96, 3), np.uint8)
    together = analyser.analyse([photos[0], nothing, *photos[1:]])
    assert together.pop(1).embedding is None
    one_by_one = [analyser.analyse([image])[0] for image in photos]
    fixed_batch = FaceAnalyser(PerceptionConfig(pack=str(dynamic_pack), device="cpu")).analyse(photos)
    assert analyser.id_dim == 128
    for batched, single, fixed in zip(together, one_by_one, fixed_batch, strict=True):
        np.testing.assert_allclose(batched.embedding, single.embedding, atol=1e-5)
        np.testing.assert_allclose(batched.embedding, fixed.embedding, atol=1e-5)
        assert batched.embedding_norm == pytest.approx(single.embedding_norm, rel=1e-5)
    assert analyser.analyse([]) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (2000, 1, 3), (40, 30, 3)])
def test_pictures_without_a_face(analyser, shape):
    (result,) = analyser.analyse([np.full(shape, 90, np.uint8)])
    assert result.faces == []
    assert (result.detector_size, result.border, result.embedding, result.embedding_norm) == (None, None, None, None)
    assert (result.gender, result.age, result.aligned) == (None, None, None)


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32), "a.jpg"]
)
def test_other_input_is_refused(analyser, image):
    with pytest.raises(ValueError, match=r"a picture must be RGB uint8"):
        analyser.analyse([np.zeros((9, 9, 3), np.uint8), image])


@pytest.mark.filterwarnings("ignore:`estimate` is deprecated")
def test_attributes_and_only_the_models_that_are_needed(tmp_path, pack_folder, photo, make_onnx, make_role):
    for path in pack_folder.glob("*.onnx"):
        shutil.copy(path, tmp_path)
    make_role(tmp_path / "2d106det.onnx", "landmark_2d_106")  # not runnable: loading it would fail
    # mean R, G, B of the crop around the face stand for female, male, age / 100
    make_onnx(tmp_path / "genderage.onnx", [("N", 3, 96, 96)], [("N", 3)], average=True)
    rgb = photo("keanureeves/wiki")
    with_attributes = FaceAnalyser(PerceptionConfig(pack=str(tmp_path), device="cpu"))
    assert set(with_attributes.files) == {"detection", "recognition", "genderage"}
    redder, greener = np.clip(rgb + np.array([60, 0, 0]), 0, 255), np.clip(rgb + np.array([0, 60, 0]), 0, 255)
    results = with_attributes.analyse([redder.astype(np.uint8), greener.astype(np.uint8)])
    assert [result.gender for result in results] == [0, 1]
    x1, y1, x2, y2 = results[0].faces[0].bbox
    scale = 96 / (max(x2 - x1, y2 - y1) * 1.5)
    crop, _ = face_align.transform(rgb, ((x1 + x2) / 2, (y1 + y2) / 2), 96, scale, 0)
    blue = (crop[..., 2].astype(np.float64) - 127.5) / 128
    assert results[0].age == pytest.approx(100 * blue.mean(), abs=1)
    without = FaceAnalyser(PerceptionConfig(pack=str(tmp_path), device="cpu", attributes=False))
    assert set(without.files) == {"detection", "recognition"}
    assert without.analyse([rgb])[0].gender is None


def test_threads_and_device_of_every_session(dynamic_pack, photo):
    three = FaceAnalyser(PerceptionConfig(pack=str(dynamic_pack), device="auto", threads=3))
    three.analyse([photo(TIGHT[0])])  # climbs to the second rung: insightface starts a session for its size by itself
    sessions = [three._recogniser.session, *three._ladder.detector.resolution_sessions.values()]
    assert len(sessions) == 3
    for session in sessions:
        options = session.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
        assert "CPUExecutionProvider" in session.get_providers()


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime does have CUDA"
)
def test_cuda_where_there_is_none(pack_folder):
    with pytest.raises(ValueError, match=r"onnxruntime-gpu.*perception\.device"):
        FaceAnalyser(PerceptionConfig(pack=str(pack_folder), device="cuda"))


def test_quiet(pack_folder, photo, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analyser = FaceAnalyser(PerceptionConfig(pack=str(pack_folder), device="cpu"))
        assert analyser.analyse([photo("keanureeves/wiki")])[0].faces
    assert capfd.readouterr() == ("", "")


def test_detector_without_landmarks_is_refused(tmp_path, make_onnx):
    make_onnx(tmp_path / "det.onnx", [(1, 3, 640, 640)], [(1, 3)] * 6, average=True)
    make_onnx(tmp_path / "rec.onnx", [("N", 3, 112, 112)], [("N", 3)], average=True)
    with pytest.raises(ValueError, match=r"det\.onnx finds no landmarks"):
        FaceAnalyser(PerceptionConfig(pack=str(tmp_path), device="cpu"))


def test_recogniser_of_a_fixed_larger_batch_is_refused(tmp_path, make_onnx):
    make_onnx(tmp_path / "det.onnx", [(1, 3, 640, 640)], [(1, 3)] * 9, average=True)
    make_onnx(tmp_path / "rec.onnx", [(4, 3, 112, 112)], [(4, 3)], average=True)
    with pytest.raises(ValueError, match=r"exactly 4 faces"):
        FaceAnalyser(PerceptionConfig(pack=str(tmp_path), device="cpu"))


def test_recogniser_that_only_claims_a_free_batch(tmp_path, make_onnx, photo, pack_folder):
    shutil.copy(pack_folder / "det_2.5g.onnx", tmp_path)
    path = make_onnx(tmp_path / "rec.onnx", [("N", 3, 112, 112)], [("N", 3)], average=True)
    model = onnx.load(str(path))  # everything in one row: the number of columns grows with the batch
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("axis", 0))
    onnx.save(model, str(path))
    analyser = FaceAnalyser(PerceptionConfig(pack=str(tmp_path), device="cpu"))
    assert analyser.id_dim == 3
    results = analyser.analyse([photo("keanureeves/wiki"), photo("lisa/nov6-2019")])
    assert [result.embedding.shape for result in results] == [(3,), (3,)]
    assert not np.allclose(results[0].embedding, results[1].embedding)


def test_cpu_never_takes_cuda(monkeypatch):
    from adaface.perception import onnx_session

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    assert onnx_session.providers("cpu") == ["CPUExecutionProvider"]
    assert onnx_session.providers("auto") == onnx_session.providers("cuda") == both
    on_cpu = SimpleNamespace(
        get_providers=lambda: ["CPUExecutionProvider"]
    )  # what onnxruntime gives without the libraries
    onnx_session.check_device(on_cpu, "auto", "model")
    with pytest.raises(ValueError, match=r"could not start CUDA"):
        onnx_session.check_device(on_cpu, "cuda", "model")
