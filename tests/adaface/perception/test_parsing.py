"""The network against the original's output; the parsers against the network, exact cases and real photos."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from adaface.perception.bisenet import BiSeNet
from adaface.perception.classes import CLASS_NAMES
from adaface.perception.config import BiSeNetConfig, OnnxParserConfig, PerceptionConfig
from adaface.perception.parsing import load_parser

PHOTOS = (
    "alexachung/may28-2020",
    "donnieyen/aug23-2017",
    "jaychou/may16-2018",
    "keanureeves/wiki",
    "lisa/nov6-2019",
    "michelleyeoh/feb22-2016",
)


def filled(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights by the formula of the golden file."""
    state = {}
    for i, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        n = np.arange(int(np.prod(shape)), dtype=np.float64)
        v = np.sin(n * 0.7312 + 0.37 * (i + 1)).reshape(shape)
        if name.endswith("running_var"):
            v = 1 + 0.3 * v
        elif name.endswith("running_mean"):
            v = 0.1 * v
        elif len(shape) > 1:
            v = v * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(".weight"):
            v = 1 + 0.2 * v
        else:
            v = 0.05 * v
        state[name] = torch.from_numpy(v.astype(np.float32))
    return state


@pytest.fixture(scope="module")
def state(shared) -> dict[str, torch.Tensor]:
    return filled(json.loads((shared / "golden" / "case9_bisenet.json").read_text())["state_dict_shapes"])


@pytest.fixture(scope="module")
def varied() -> dict[str, torch.Tensor]:
    """A state dict, with something of the auxiliary heads, that gives many classes; the golden formula's gives one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = BiSeNet().state_dict()
    return {
        **state,
        "conv_out16.conv_out.weight": torch.zeros(19, 64, 1, 1),
        "conv_out32.conv.bn.bias": torch.ones(64),
    }


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """(2, 512, 512, 3): smooth colours, so that resizing them would not matter much."""
    y, x = np.mgrid[:512, :512] / 512
    one = np.stack([np.sin(5 * x + 1), np.cos(7 * y), np.sin(9 * x * y)], axis=-1)
    return np.round(127.5 * (1 + np.stack([one, -one]))).astype(np.uint8)


def test_golden_logits(shared, state):
    golden = load_file(shared / "golden" / "case9_bisenet.safetensors")
    model = BiSeNet.from_state_dict(state)
    with torch.inference_mode():
        logits = model(golden["input"])
    torch.testing.assert_close(logits, golden["logits"], atol=2e-5, rtol=1e-5)
    assert (logits.argmax(1) == golden["logits"].argmax(1)).float().mean() > 0.999


def test_names_are_the_originals_without_the_auxiliary_heads(state):
    model = BiSeNet()
    expected = {name: tuple(value.shape) for name, value in state.items() if not name.startswith("conv_out16.")}
    expected = {name: shape for name, shape in expected.items() if not name.startswith("conv_out32.")}
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == 13_150_272


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_to_class_map(tmp_path, varied, pictures, suffix):
    file = tmp_path / f"79999_iter{suffix}"
    if suffix == ".pth":
        torch.save(varied, file)
    else:
        save_file(varied, file)
    parser = load_parser(BiSeNetConfig(file=str(file)), device="cpu", threads=1, batch_size=1)
    assert parser.file == file
    threads = torch.get_num_threads()
    classes = parser.parse(pictures)
    assert torch.get_num_threads() == threads
    assert classes.shape == (2, 512, 512) and classes.dtype == np.uint8
    x = (pictures / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        expected = BiSeNet.from_state_dict(varied)(torch.from_numpy(x).permute(0, 3, 1, 2).float()).argmax(1).numpy()
    assert (classes == expected).mean() > 0.999
    assert len(np.unique(classes)) > 3


def test_pictures_of_another_size(tmp_path, varied, pictures):
    save_file(varied, tmp_path / "parser.safetensors")
    parser = load_parser(BiSeNetConfig(file=str(tmp_path / "parser.safetensors")), device="cpu")
    # every pixel twice in each direction: a parser that squeezes to 512 sees nearly the same picture
    wide = pictures[:1].repeat(2, axis=2)
    classes = parser.parse(wide)
    assert classes.shape == (1, 512, 1024)
    assert (classes[:, :, ::2] == parser.parse(pictures[:1])).mean() > 0.97


def test_state_dicts_that_do_not_fit(tmp_path, varied):
    file = tmp_path / "parser.pth"
    config = BiSeNetConfig(file=str(file))
    with pytest.raises(FileNotFoundError, match=r"parser\.pth does not exist; set `perception\.parser\.file`"):
        load_parser(config)
    torch.save({name: value for name, value in varied.items() if name != "ffm.conv1.weight"}, file)
    with pytest.raises(ValueError, match=r"not a state dict(?s:.)*ffm\.conv1\.weight"):
        load_parser(config, device="cpu")
    torch.save({**varied, "conv_out64.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"conv_out64\.weight"):
        load_parser(config, device="cpu")
    torch.save([1, 2], file)
    with pytest.raises(ValueError, match=r"holds a list"):
        load_parser(config, device="cpu")


@pytest.fixture(scope="module")
def narrow() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return BiSeNet(width=8).state_dict()


def test_the_width_is_read_off_the_weights(narrow, varied):
    for state, width in ((narrow, 8), (varied, 64)):
        model = BiSeNet.from_state_dict(state)
        assert model.cp.resnet.conv1.out_channels == width and model.conv_out.conv.conv.out_channels == 4 * width
    assert sum(parameter.numel() for parameter in BiSeNet(width=16).parameters()) == 826_896
    with torch.inference_mode():
        assert BiSeNet.from_state_dict(narrow)(torch.zeros(2, 3, 64, 96)).shape == (2, 19, 64, 96)


def test_a_narrow_half_precision_file_at_a_small_side(tmp_path, narrow, pictures):
    file = tmp_path / "parser.safetensors"
    save_file({name: value.half() if value.dim() > 1 else value for name, value in narrow.items()}, file)
    parser = load_parser(BiSeNetConfig(file=str(file), side=128), device="cpu")
    assert {parameter.dtype for parameter in parser.model.parameters()} == {torch.float32}
    found = parser.parse(pictures)
    assert found.shape == (2, 512, 512) and len(np.unique(found)) > 3
    # the picture at 128 px, its class map enlarged pixel by pixel
    small = np.stack([np.asarray(Image.fromarray(p).resize((128, 128), Image.Resampling.BILINEAR)) for p in pictures])
    np.testing.assert_array_equal(found, parser.parse(small).repeat(4, axis=1).repeat(4, axis=2))
    x = (small / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        expected = BiSeNet.from_state_dict(load_file(file))(torch.from_numpy(x).permute(0, 3, 1, 2).float()).argmax(1)
    assert (parser.parse(small) == expected.numpy()).mean() > 0.999


@pytest.mark.parametrize("side", [0, -32, 100, 513, 4096, "large"])
def test_wrong_sides(side):
    with pytest.raises(ValidationError, match=r"side\n.*(multiple of 32|greater than|less than|valid integer)"):
        BiSeNetConfig(file="parser.pth", side=side)


def test_the_side_counts_as_a_change_of_results():
    def computed(**settings):
        parser = BiSeNetConfig(file="parser.pth", **settings)
        return PerceptionConfig(pack="pack", parser=parser).what_it_computes()

    assert computed() == computed(side=512) != computed(side=256)


def test_narrow_state_dicts_that_do_not_fit(tmp_path, narrow, varied):
    file = tmp_path / "parser.pth"
    config = BiSeNetConfig(file=str(file), side=64)
    for wrong, name in (
        ({**narrow, "ffm.conv1.weight": varied["ffm.conv1.weight"]}, r"ffm\.conv1\.weight"),
        ({key: value for key, value in narrow.items() if key != "conv_out.conv_out.weight"}, r"conv_out\.conv_out"),
        ({key: value for key, value in narrow.items() if key != "cp.resnet.conv1.weight"}, r"cp\.resnet\.conv1"),
        ({**narrow, "cp.resnet.conv1.weight": torch.zeros(8)}, r"cp\.resnet\.conv1"),
        ({"weight": torch.zeros(1)}, r"cp\.resnet\.conv1"),
        ({}, r"cp\.resnet\.conv1"),
    ):
        torch.save(wrong, file)
        with pytest.raises(ValueError, match=rf"not a state dict of face-parsing.PyTorch's BiSeNet(?s:.)*{name}"):
            load_parser(config, device="cpu")


class Marker:
    """Unpickling one calls a function: what a hostile checkpoint does."""

    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_are_not_executed(tmp_path):
    torch.save({"weight": Marker()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Marker()))
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    (tmp_path / "broken.safetensors").write_bytes(b"not a checkpoint")
    for name in ("zip.pth", "plain.pth", "broken.pth"):
        with pytest.raises(ValueError, match=r"damaged or holds more than tensors"):
            load_parser(BiSeNetConfig(file=str(tmp_path / name)), device="cpu")
    with pytest.raises(ValueError, match=r"not a readable safetensors file"):
        load_parser(BiSeNetConfig(file=str(tmp_path / "broken.safetensors")), device="cpu")


def colours_config(file) -> OnnxParserConfig:
    """For a model that returns its input: the red, green and blue of a pixel are its scores."""
    return OnnxParserConfig(
        file=str(file), channels=["hair", "skin", "hat"], threshold=0.5, mean=(0, 0, 0), std=(1, 1, 1)
    )


@pytest.fixture
def colours() -> np.ndarray:
    """(3, 8, 16, 3); left half of one colour, right half of another."""
    images = np.zeros((3, 8, 16, 3), np.uint8)
    images[0, :, :8], images[0, :, 8:] = (255, 90, 0), (0, 130, 129)  # hair, skin
    images[1, :, :8], images[1, :, 8:] = (0, 0, 200), (127, 127, 127)  # hat, background: 127 / 255 < 0.5
    images[2, :, :8], images[2, :, 8:] = (128, 0, 0), (0, 0, 0)  # hair: 128 / 255 > 0.5, background
    return images


def expected_classes() -> np.ndarray:
    names = np.array([["hair", "skin"], ["hat", "background"], ["hair", "background"]])
    ids = np.vectorize(CLASS_NAMES.index)(names)
    return ids.repeat(8, axis=1)[:, None, :].repeat(8, axis=1).astype(np.uint8)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_channels_and_threshold(tmp_path, make_onnx, colours, batch_size):
    file = make_onnx(tmp_path / "parser.onnx", [("N", 3, "h", "w")], [("N", 3, "h", "w")])
    classes = load_parser(colours_config(file), device="cpu", batch_size=batch_size).parse(colours)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, expected_classes())


@pytest.mark.parametrize("fixed", [1, 2])
def test_fixed_batch_and_size(tmp_path, make_onnx, colours, fixed):
    file = make_onnx(tmp_path / "parser.onnx", [(fixed, 3, 4, 4)], [(fixed, 3, 4, 4)])
    parser = load_parser(colours_config(file), device="cpu")
    large = colours.repeat(4, axis=1).repeat(4, axis=2)  # 32 x 64; the half border stays on a border of the 4 x 4 grid
    classes = parser.parse(large)
    assert classes.shape == (3, 32, 64)
    inner = np.r_[0:16, 48:64]  # antialiasing mixes the two colours beside the middle
    np.testing.assert_array_equal(
        classes[:, :, inner], expected_classes().repeat(4, axis=1).repeat(4, axis=2)[:, :, inner]
    )


def test_normalisation_and_plain_argmax(tmp_path, make_onnx):
    file = make_onnx(tmp_path / "parser.onnx", [("N", 3, "h", "w")], [("N", 3, "h", "w")])
    config = OnnxParserConfig(
        file=str(file), channels=["background", "skin", "hair"], mean=(0.9, 0, 0), std=(1, 1, 0.1)
    )
    image = np.array([[[[255, 0, 0], [255, 50, 0], [255, 200, 30]]]], np.uint8)
    # scores: (0.1, 0, 0), (0.1, 0.196, 0), (0.1, 0.784, 1.176)
    names = [CLASS_NAMES[i] for i in load_parser(config, device="cpu").parse(image).ravel()]
    assert names == ["background", "skin", "hair"]


def test_models_that_do_not_fit(tmp_path, make_onnx, colours):
    file = tmp_path / "parser.onnx"
    with pytest.raises(FileNotFoundError, match=r"perception\.parser\.file"):
        load_parser(colours_config(file))
    file.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"not a readable ONNX file"):
        load_parser(colours_config(file), device="cpu")
    make_onnx(file, [("N", 3, 8, 8)], [("N", 3, 8, 8)])
    two = colours_config(file).model_copy(update={"channels": ["skin", "hair"]})
    with pytest.raises(ValueError, match=r"3 output channels, but `perception\.parser\.channels` names 2"):
        load_parser(two, device="cpu")
    make_onnx(file, [("N", 3, 8, 8)], [("N", "c", "h", "w")])
    with pytest.raises(ValueError, match=r"3 output channels"):
        load_parser(two, device="cpu").parse(colours)
    make_onnx(file, [("N", 3, 8, 8)], [("N", 3, 8, 8), ("N", 3, 8, 8)])
    with pytest.raises(ValueError, match=r"one output"):
        load_parser(colours_config(file), device="cpu")
    make_onnx(file, [("N", 3, 8, 8)], [("N", 3)], average=True)
    with pytest.raises(ValueError, match=r"must have an output \(N, channels, h, w\)"):
        load_parser(colours_config(file), device="cpu")


def test_input_is_checked(tmp_path, make_onnx, colours):
    file = make_onnx(tmp_path / "parser.onnx", [("N", 3, "h", "w")], [("N", 3, "h", "w")])
    parser = load_parser(colours_config(file), device="cpu")
    for wrong in (colours[0], colours.astype(np.float32), colours[..., :2]):
        with pytest.raises(ValueError, match=r"must be RGB uint8 \(B, H, W, 3\)"):
            parser.parse(wrong)
    assert parser.parse(colours[:0]).shape == (0, 8, 16)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(tmp_path, varied):
    save_file(varied, tmp_path / "parser.safetensors")
    with pytest.raises(ValueError, match=r"perception\.device"):
        load_parser(BiSeNetConfig(file=str(tmp_path / "parser.safetensors")), device="cuda")


def test_masks_of_real_photos(shared):
    config = OnnxParserConfig(
        file=str(shared / "models" / "parse_skin_cloth_hair.onnx"), channels=["skin", "cloth", "hair"], threshold=0.5
    )
    parser = load_parser(config, device="cpu")
    overlaps = []
    for name in PHOTOS:
        with (
            Image.open(shared / "faces" / f"{name}.jpg") as image,
            Image.open(shared / "faces" / f"{name}_mask.png") as m,
        ):
            rgb, given = np.asarray(image.convert("RGB")), np.asarray(m.convert("L").resize(image.size, 0)) > 127
        found = parser.parse(rgb[None])[0] > 0
        overlaps.append((found & given).sum() / (found | given).sum())
    print("foreground IoU:", dict(zip(PHOTOS, np.round(overlaps, 3), strict=True)), "mean", np.mean(overlaps).round(3))
    assert np.mean(overlaps) > 0.85


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_precision_on_cuda_agrees_with_the_cpu(tmp_path, varied, pictures):
    save_file(varied, tmp_path / "parser.safetensors")
    config = BiSeNetConfig(file=str(tmp_path / "parser.safetensors"))
    on_cuda = load_parser(config, device="cuda").parse(pictures)
    assert (on_cuda == load_parser(config, device="cpu").parse(pictures)).mean() > 0.97
