"""Recogniser, judge and attribute model: their files in onnxruntime, in insightface and back in torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adaface.miniature.networks.alignment import align, crop_box
from adaface.miniature.networks.attributes import (
    AGES,
    AttributeNet,
    age_groups,
    attribute_file,
    genders,
    group_of,
    years,
)
from adaface.miniature.networks.attributes import to_attribute_input as scaled_for_attributes
from adaface.miniature.networks.conv_net import load_onnx, save_onnx
from adaface.miniature.networks.recogniser import (
    NETWORKS,
    Judge,
    Recogniser,
    embed_portraits,
    load_recogniser,
    recogniser_file,
    to_input,
)
from adaface.miniature.render import Picture, render
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene
from adaface.perception.onnx_session import batch_limit, session_options

SIDES = {Recogniser: 112, Judge: 112, AttributeNet: 96}


def _shaken(net: nn.Module) -> nn.Module:
    """Statistics and biases that differ from their first values, so that a mixed-up one shows."""
    generator = torch.Generator().manual_seed(5)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            noise = torch.rand(tensor.shape, generator=generator) * 0.5
            tensor.copy_(noise + 0.75 if "var" in name or name.endswith("weight") else noise - 0.25)
    return net.eval()


@pytest.fixture(scope="module")
def picture() -> Picture:
    rng = np.random.default_rng(1)
    return render(Identity.sample(rng), Scene(), Nuisance.sample(rng), 160)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name, kind in NETWORKS.items():
        save_onnx(_shaken(kind()), recogniser_file(folder, name), 112)
    save_onnx(_shaken(AttributeNet()), attribute_file(folder), 96)
    return folder


def _insightface(file: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside insightface
        model_zoo = pytest.importorskip("insightface.model_zoo")
        return model_zoo.get_model(str(file), providers=["CPUExecutionProvider"], sess_options=session_options(1))


@pytest.mark.parametrize("kind", list(SIDES))
def test_the_file_computes_what_the_network_does_and_gives_it_back(kind: type[nn.Module], tmp_path: Path) -> None:
    import onnxruntime

    torch.manual_seed(1)
    net, side, file = _shaken(kind()), SIDES[kind], tmp_path / "net.onnx"
    save_onnx(net, file, side)
    session = onnxruntime.InferenceSession(str(file), session_options(1))
    assert batch_limit(session) is None
    x = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1
    again = load_onnx(kind(), file)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    for rows in (1, 3):
        (found,) = session.run(None, {"input": x[:rows].numpy()})
        with torch.inference_mode():
            whole = net(x[:rows]).numpy()
            assert np.linalg.norm(found - whole) <= 0.02 * np.linalg.norm(whole)  # the matrices have 8 bits
            np.testing.assert_allclose(found, again(x[:rows]).numpy(), atol=1e-5, rtol=1e-5)
    stored = again.state_dict()
    for name, weight in net.state_dict().items():
        if weight.ndim > 1:  # at most half a step away, of which the largest weight of an output channel is 127
            largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
            assert ((stored[name] - weight).abs() <= largest / 127 * 0.5001).all(), name
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(stored[name], weight), name
    first = file.read_bytes()
    save_onnx(net, file, side)
    assert file.read_bytes() == first
    assert len(first) <= (300_000 if kind is AttributeNet else 1_300_000)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_insightface_embeds_as_torch_does(name: str, weights: Path, picture: Picture) -> None:
    model = _insightface(recogniser_file(weights, name))
    assert model.taskname == "recognition"
    assert model.input_size == (112, 112) and model.input_mean == model.input_std == 127.5
    crop = align(picture.image, picture.landmarks)
    raw = model.get_feat([crop[:, :, ::-1], crop[::-1, :, ::-1]])
    net = load_recogniser(weights, name)
    with torch.inference_mode():
        np.testing.assert_allclose(raw, net(to_input([crop, crop[::-1]])).numpy(), atol=1e-3, rtol=1e-3)
    unit = embed_portraits(net, [picture.image], picture.landmarks[None])
    np.testing.assert_allclose(unit[0].numpy(), raw[0] / np.linalg.norm(raw[0]), atol=1e-4)


def test_insightface_reads_gender_and_age_as_torch_does(weights: Path, picture: Picture) -> None:
    model = _insightface(attribute_file(weights))
    assert model.taskname == "genderage" and (model.input_mean, model.input_std) == (127.5, 128.0)
    from insightface.app.common import Face

    gender, age = model.get(np.ascontiguousarray(picture.image[:, :, ::-1]), Face(bbox=picture.box))
    net = load_onnx(AttributeNet(), attribute_file(weights))
    with torch.inference_mode():
        answer = net(scaled_for_attributes([crop_box(picture.image, picture.box)]))[0]
    assert gender == int(answer[:2].argmax())
    assert abs(age - float(answer[2]) * 100) <= 0.51


def test_the_files_are_taken_for_what_they_are(weights: Path) -> None:
    from adaface.perception.pack import embedding_length, resolve_pack

    # without a detector the pack is refused, and the message tells the roles of the others
    with pytest.raises(ValueError, match=r"attributes\.onnx \(genderage\), recogniser\.onnx \(recognition\)"):
        resolve_pack(weights / "pack")
    assert embedding_length(recogniser_file(weights, "pack")) == 64


def test_pictures_of_several_sizes_are_embedded_as_one_by_one(weights: Path) -> None:
    rng = np.random.default_rng(2)
    pictures = [render(Identity.sample(rng), Scene(), Nuisance.sample(rng), side) for side in (64, 100, 256)]
    net = load_recogniser(weights)
    points = np.stack([picture.landmarks for picture in pictures])
    together = embed_portraits(net, [picture.image for picture in pictures], points, batch=2)
    assert together.shape == (3, 64) and together.dtype == torch.float32
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    for row, picture in zip(together, pictures, strict=True):
        alone = embed_portraits(net, picture.image[None], picture.landmarks[None])[0]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-4)
    assert embed_portraits(net, [], np.empty((0, 5, 2))).shape == (0, 64)


def test_wrong_files_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train it"):
        load_recogniser(tmp_path, "pack")
    with pytest.raises(ValueError, match="pack, judge"):
        load_recogniser(weights, "jury")
    with pytest.raises(ValueError, match="another network than Judge"):
        load_onnx(Judge(), recogniser_file(weights, "pack"))
    with pytest.raises(TypeError, match="Tanh"):
        save_onnx(nn.Sequential(nn.Tanh(), nn.Flatten()), tmp_path / "x.onnx", 112)


def test_ages_lie_in_their_groups_and_are_read_back() -> None:
    rng = np.random.default_rng(0)
    people = [Identity.sample(rng) for _ in range(500)]
    factors = np.stack([person.factors() for person in people])
    assert (genders(factors) == [1 - person.female for person in people]).all()
    group, age = age_groups(factors), years(factors)
    assert (group == [person.age for person in people]).all()
    for index, (first, last) in enumerate(AGES):
        ages = age[group == index]
        assert first <= ages.min() and ages.max() <= last and np.ptp(ages) > (last - first) / 2
    assert (group_of(age) == group).all()
