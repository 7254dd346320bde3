"""The original's checkpoints: every parameter bit-exactly, and a clear error for what is none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaface.encoder.background import from_original
from adaface.encoder.config import TEXT_SIZES
from adaface.original.checkpoints import OriginalEncoder, read_original, stored_tensors
from adaface.original.inert_objects import Record
from adaface.original.torch_archive import Storage, StoredTensor
from tests.adaface.encoder.golden_files import Golden
from tests.adaface.original import tiny_original
from tests.adaface.original.hostile_pickles import archive, checkpoint, module, named, pickled, storage, tensor

TEXT = "prompt2token_proj.text_model."
GENERATOR = "adaface.subj_basis_generator.SubjBasisGenerator"


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].is_contiguous() and torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("package", ["adaface", "ldm.modules"])
def test_both_module_paths_give_the_real_state_dict(package: str, tmp_path: Path):
    """Against the state_dict of the very modules that were pickled, in a full file."""
    pads = torch.rand(tiny_original.WINDOW, tiny_original.WIDTH)
    subject = tiny_original.subject(multipliers=(3, 1), layer_weights=torch.rand(3, 1), pads=pads)
    background = tiny_original.background()
    path = tiny_original.save(
        tmp_path / "x.pt", {"y": background, "z": subject}, package=package, string_to_token={"z": 345}, do_zero_shot=True
    )  # fmt: skip
    found = read_original(path)
    inverse = {name.removeprefix(TEXT): t for name, t in subject.state_dict().items() if name.startswith(TEXT)}
    equal(found.inverse, inverse)
    equal(found.background, from_original(background.state_dict()))
    assert torch.equal(found.layer_weights, subject.hidden_state_layer_weights)
    assert found.pad_table is not None and torch.equal(found.pad_table, pads)
    assert found.config.multipliers == (3, 1)
    assert (found.subject, found.background_word) == ("z", "y")
    config = subject.prompt2token_proj.config
    assert all(found.config.text[name] == getattr(config, name) for name in TEXT_SIZES)
    sizes = {"image_dim": 7, "image_tokens": 5, "heads": 8, "layers": 4, "vectors": 2, "dropout": 0.05}
    assert found.config.background == sizes
    assert found.left_out == ("string_to_token", "do_zero_shot")
    dead = {
        name: tuple(t.shape) for name, t in subject.named_parameters() if name.startswith(("pos_embs", "obj_proj"))
    }
    assert found.dropped == {**dead, f"{TEXT}embeddings.position_ids": (1, 77)}


def test_a_slim_file_with_wide_layer_weights_or_none(tmp_path: Path):
    wide = torch.rand(3, tiny_original.WIDTH)
    found = read_original(
        tiny_original.save(tmp_path / "x.pt", {"z": tiny_original.subject(layer_weights=wide)}), background=True
    )
    assert torch.equal(found.layer_weights, wide)
    assert found.pad_table is None and found.background_word is None and found.config.background is None
    assert found.background == {} and found.left_out == ()
    found = read_original(tiny_original.save(tmp_path / "y.pt", {"z": tiny_original.subject()}))
    assert found.layer_weights.flatten().tolist() == [0.0, 0.0, 1.0]  # a run without them took the last layer


def test_one_of_several_subjects_must_be_named(tmp_path: Path):
    generators: dict[str, nn.Module] = {
        "z": tiny_original.subject(layer_weights=torch.ones(3, 1)),
        "x": tiny_original.subject(layer_weights=torch.zeros(3, 1)),
        "y": tiny_original.background(),
    }
    path = tiny_original.save(tmp_path / "x.pt", generators)
    with pytest.raises(ValueError, match="several subjects, 'z', 'x'; name one"):
        read_original(path)
    with pytest.raises(ValueError, match="no subject 'y'; it has 'z', 'x'"):
        read_original(path, subject="y")
    found = read_original(path, subject="x", background=False)
    assert found.layer_weights.sum() == 0 and not found.background and found.background_word is None
    name = "string_to_subj_basis_generator_dict"
    assert found.left_out == (f"{name}['z']", f"{name}['y']")


def test_half_precision_becomes_float32(tmp_path: Path):
    subject = tiny_original.subject(layer_weights=torch.ones(3, 1)).half()
    found = read_original(tiny_original.save(tmp_path / "x.pt", {"z": subject}))
    name = "final_layer_norm.weight"
    assert found.inverse[name].dtype == torch.float32
    assert torch.equal(found.inverse[name], subject.state_dict()[TEXT + name].float())


def broken(change: Any) -> nn.Module:
    subject = tiny_original.subject(layer_weights=torch.ones(3, 1))
    change(subject)
    return subject


def cut_values(subject: Any) -> None:
    attention = subject.prompt2token_proj.text_model.encoder.layers[1].self_attn
    attention.v_proj.weight = nn.Parameter(torch.zeros(700, tiny_original.WIDTH))


CHANGES = {
    "layer weights of a strange shape": (
        lambda subject: setattr(subject, "hidden_state_layer_weights", nn.Parameter(torch.ones(2, 1))),
        r"shape \(2, 1\), not \(3, 1\) or \(3, 512\)",
    ),
    "pads of a strange shape": (
        lambda subject: setattr(subject, "pad_embeddings", torch.ones(5, 5)),
        r"no tensor of shape \(77, 512\)",
    ),
    "weights that are no numbers": (
        lambda subject: subject.hidden_state_layer_weights.data.fill_(float("nan")),
        "hidden_state_layer_weights holds values that are no finite numbers",
    ),
    "a part of an older model": (
        lambda subject: setattr(subject, "prompt_translator", nn.Linear(2, 2)),
        "does not use: 'prompt_translator.weight', 'prompt_translator.bias'",
    ),
    "no inverse encoder": (lambda subject: delattr(subject, "prompt2token_proj"), "before May 2024"),
    "no configuration": (lambda subject: delattr(subject.prompt2token_proj, "config"), "configuration lacks sizes"),
    "another configuration": (
        lambda subject: setattr(subject.prompt2token_proj.config, "intermediate_size", 65),
        "of another size: 'encoder.layers.0.mlp.fc1.weight'",
    ),
    "an unknown activation": (
        lambda subject: setattr(subject.prompt2token_proj.config, "hidden_act", "nonsense"),
        "activation that no CLIP text model has",
    ),
    "a tensor without values": (
        lambda subject: setattr(
            subject.prompt2token_proj.text_model.encoder.layers[0].self_attn.k_proj,
            "weight",
            nn.Parameter(torch.ones(5, 0)),
        ),
        "tensors without values: 'encoder.layers.0.self_attn.k_proj.weight'",
    ),
    "values of half a copy": (cut_values, r"must be \(m·D, D\): encoder.layers.1"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_weights_that_do_not_make_an_encoder(name: str, tmp_path: Path):
    change, said = CHANGES[name]
    path = tiny_original.save(tmp_path / "x.pt", {"z": broken(change)})
    with pytest.raises(ValueError, match=said) as caught:
        read_original(path)
    assert str(caught.value).startswith(f"{path}: ")


FLOATS = bytes(16)
WEIGHT = tensor(storage("0", 4), 0, (4,))
NOT_ORIGINAL = {
    "a state dict": ({"layer.weight": WEIGHT}, "it has no string_to_subj_basis_generator_dict"),
    "a list": ([WEIGHT], "no table of named entries"),
    "keys that are numbers": ({1: {}}, "no table of named entries"),
    "generators in a list": ({"string_to_subj_basis_generator_dict": []}, "it has no string_to_subj_basis"),
    "a generator of no class": (checkpoint(WEIGHT), "other than generators"),
    "a generator of another class": (
        checkpoint(module("adaface.evil.SubjBasisGenerator")),
        "is a adaface.evil.SubjBasisGenerator, not one of the original's",
    ),
    "a generator without anything": (checkpoint(module(GENERATOR)), "no inverse encoder"),
    "a module whose parts are a list": (checkpoint(module(GENERATOR, _modules=[1])), "without proper names"),
    "a part of a hostile name": (
        checkpoint(module(GENERATOR, _modules={"a\x1b[2J": None})),
        "without proper names",
    ),
    "a parameter that is a function": (
        checkpoint(module(GENERATOR, _parameters={"pos_embs": named("torch", "zeros")})),
        "pos_embs is no ordinary tensor",
    ),
    "only a background": (checkpoint(module(GENERATOR, placeholder_is_bg=True)), "no generator for a subject"),
}


@pytest.mark.parametrize("name", NOT_ORIGINAL)
def test_what_is_no_checkpoint_of_the_original(name: str, tmp_path: Path):
    root, said = NOT_ORIGINAL[name]
    path = archive(tmp_path / "x.pt", pickled(root), {"0": FLOATS})
    with pytest.raises(ValueError, match=said) as caught:
        read_original(path)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()


def test_modules_in_themselves_and_shared_without_end_are_refused():
    leaf = StoredTensor(Storage("0", torch.float32, 4), 0, (4,), (1,))
    shared = Record("m", state={"_parameters": {"w": leaf}})
    assert list(stored_tensors(shared)) == ["w"]
    for _ in range(20):  # 2**20 paths to one tensor
        shared = Record("m", state={"_modules": {"a": shared, "b": shared}})
    with pytest.raises(ValueError, match="nested too deeply, or shared without end"):
        stored_tensors(shared)
    circle = Record("m", state={})
    circle.state["_modules"] = {"a": circle}
    with pytest.raises(ValueError, match="nested too deeply, or shared without end"):
        stored_tensors(circle)


def golden(shared: Path, name: str) -> OriginalEncoder:
    return read_original(shared / "golden" / f"case5_ckpt_{name}.pt")


@pytest.mark.parametrize("name", ["x1", "x1_oldnames"])
def test_golden_parameters_are_read_bit_exactly(name: str, shared: Path):
    """Against the .safetensors twin of the original's own file."""
    found = golden(shared, name)
    twin = Golden(shared / "golden", "case5_ckpt_x1.safetensors").weights("z/")
    assert torch.equal(found.layer_weights, twin.pop("hidden_state_layer_weights"))
    equal(found.inverse, {name.removeprefix(TEXT): tensor for name, tensor in twin.items()})
    assert found.config.multipliers == (1, 1, 1) and found.pad_table is None
    assert found.background_word == "y" and found.config.background["image_tokens"] == 257  # type: ignore[index]
    assert found.dropped["obj_proj_in.0.weight"] == (44352, 384)


class Standin(nn.Module):
    """Any class of the original, for Python's own unpickler."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__init__()  # not all of the classes are modules
        self.__dict__.update(state)


class OwnUnpickler(pickle.Unpickler):
    """Another reader of the golden files, which are trusted: torch's real tensors, stand-ins for classes."""

    def find_class(self, package: str, name: str) -> Any:
        if package.startswith(("adaface", "ldm", "einops", "transformers")):
            return Standin
        return super().find_class(package, name)


class own_pickle:
    Unpickler, load = OwnUnpickler, staticmethod(pickle.load)


def test_golden_four_keys_agree_with_torch_load(shared: Path):
    found = golden(shared, "x4")
    path = shared / "golden" / "case5_ckpt_x4.pt"
    root = torch.load(path, pickle_module=own_pickle, weights_only=False)
    subject = root["string_to_subj_basis_generator_dict"]["z"]
    expected = {name: t for name, t in subject.state_dict().items() if name.startswith(TEXT)}
    equal(found.inverse, {name.removeprefix(TEXT): t for name, t in expected.items() if "position_ids" not in name})
    assert found.config.multipliers == (4, 4, 4)
    assert found.pad_table is not None and torch.equal(found.pad_table, subject.pad_embeddings)
    background = root["string_to_subj_basis_generator_dict"]["y"].state_dict()
    equal(found.background, from_original(background))
