"""The original's checkpoints, embeddings_gs-N.pt, read as data.

Such a file is a pickle of whole objects; the part that draws people is the SubjBasisGenerator of a placeholder word
("z") in `string_to_subj_basis_generator_dict`, in full files as in slim ones that hold nothing else. Its module objects
are read as records (`torch_archive`), and the parameters are collected from them the way `state_dict` does. Some parts of
a generator have weights that no path of the original uses any more: these are left out and listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaface.encoder.background import from_original
from adaface.encoder.config import TEXT_CHOICES, TEXT_SIZES, EncoderConfig
from adaface.encoder.multi_kv import multipliers_in
from adaface.original.inert_objects import Record
from adaface.original.torch_archive import StoredTensor, TorchArchive

GENERATORS = "string_to_subj_basis_generator_dict"
# Newer and older training runs; the first of several names that were given to the same class
_CLASSES = {f"{package}.subj_basis_generator.SubjBasisGenerator" for package in ("adaface", "ldm.modules", "ldm")}
_TEXT_MODEL = "prompt2token_proj.text_model."
_LAYER_WEIGHTS = "hidden_state_layer_weights"
# Parts of a subject's generator that its forward pass never reaches, today's and those of older files.
_DEAD = re.compile(
    r"(pos_embs|pos_embs_ln|obj_proj_in|proj_in|face_proj_in|layers|lora2hira|latent_queries|latent_query_lns|"
    r"latent_queries_ln)(\.|$)|prompt2token_proj\.text_model\.embeddings\.position_ids$"
)
# Tokens of CLIP's tokenizer, which all of the original's runs used: "photo of a id person", "photo of a , , ..."
_TEACHER_TOKENS = (49406, 1125, 539, 320, 1014, 2533, 49407)
_INVERSE_TOKENS = (49406, 1125, 539, 320, *[267] * 16, 49407)
_ID_TOKEN, _PAD_TOKEN = 1014, 49407
_ID_DIM = 512  # of antelopev2, the only face model that the original knows
_DEPTH, _MODULES = 32, 20_000  # of nested module objects; a generator has 8 and about 200


@dataclass(frozen=True)
class OriginalEncoder:
    """What an `AdaFaceEncoder` needs of an original checkpoint, in float32.

    Attributes:
        config: with the sizes, tokens and keys per layer of the file; without teacher and face pack.
        subject: the word of the generator that was read.
        inverse: weights of the inverse encoder, under the names of transformers' `CLIPTextModel`.
        layer_weights: (3, 1) or (3, D), oldest layer first.
        pad_table: (77, D) the cached pad embeddings, which may be older than the weights; None where the run had not
            made them.
        background_word: the word of the background generator, None without one.
        background: its weights, under the names of `BackgroundGenerator`.
        dropped: name and shape of every parameter and buffer of the subject's generator that is of no use.
        left_out: other entries of the file: of the trainer, or other words.
    """

    config: EncoderConfig
    subject: str
    inverse: dict[str, Tensor]
    layer_weights: Tensor
    pad_table: Tensor | None
    background_word: str | None
    background: dict[str, Tensor]
    dropped: dict[str, tuple[int, ...]]
    left_out: tuple[str, ...]


def read_original(path: str | Path, *, subject: str | None = None, background: bool = True) -> OriginalEncoder:
    """Read one of the original's checkpoints; nothing in it runs.

    Args:
        path: the .pt file.
        subject: the placeholder word whose generator to read; may be left out when there is only one.
        background: also read the background generator, where the file has one.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, hostile, of a version without an inverse encoder, or no checkpoint of the
            original; for several subjects when none is named, and for one that is not there.
    """
    with TorchArchive(path) as archive:
        try:
            generators = _generators(archive.root)
            subjects = [word for word, record in generators.items() if not record.attribute("placeholder_is_bg")]
            backgrounds = [word for word in generators if word not in subjects]
            word = _chosen(subjects, subject)
            if background and len(backgrounds) > 1:
                raise ValueError(
                    f"it has several backgrounds, {_listed(backgrounds)}; convert it without a background"
                )
            behind = backgrounds[0] if background and backgrounds else None
            found = _subject(archive, generators[word])
            sizes, tensors = (None, {}) if behind is None else _background(archive, generators[behind])
            config = EncoderConfig(
                id_dim=_ID_DIM,
                text=found.text,
                multipliers=multipliers_in(found.inverse),
                teacher_tokens=_TEACHER_TOKENS,
                inverse_tokens=_INVERSE_TOKENS,
                id_token=_ID_TOKEN,
                pad_token=_PAD_TOKEN,
                background=sizes,
            )
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error
        others = [name for name in archive.root if name != GENERATORS]
        others += [f"{GENERATORS}[{name!r}]" for name in generators if name not in (word, behind)]
    return OriginalEncoder(
        config, word, found.inverse, found.layer_weights, found.pads, behind, tensors, found.dropped, tuple(others)
    )


@dataclass(frozen=True)
class _Subject:
    text: dict[str, Any]
    inverse: dict[str, Tensor]
    layer_weights: Tensor
    pads: Tensor | None
    dropped: dict[str, tuple[int, ...]]


def _generators(root: Any) -> dict[str, Record]:
    found = root.get(GENERATORS) if type(root) is dict else None
    words = found.attribute("_modules") if type(found) is Record else None
    if type(root) is not dict or not all(type(name) is str for name in root):
        raise ValueError("this is no checkpoint of the original: it holds no table of named entries")
    if type(words) is not dict or not words:
        raise ValueError(f"this is no checkpoint of the original: it has no {GENERATORS}")
    for word, record in words.items():
        if type(word) is not str or not word.isprintable() or type(record) is not Record:
            raise ValueError(f"its {GENERATORS} holds something other than generators")
        if record.name not in _CLASSES:
            raise ValueError(f"its generator {word!r} is a {record.name}, not one of the original's")
    return words


def _chosen(subjects: list[str], subject: str | None) -> str:
    if not subjects:
        raise ValueError("it has no generator for a subject, only for backgrounds")
    if subject is None:
        if len(subjects) > 1:
            raise ValueError(f"it has several subjects, {_listed(subjects)}; name one of them")
        return subjects[0]
    if subject not in subjects:
        raise ValueError(f"it has no subject {subject!r}; it has {_listed(subjects)}")
    return subject


def _subject(archive: TorchArchive, record: Record) -> _Subject:
    stored = stored_tensors(record)
    if not any(name.startswith(_TEXT_MODEL) for name in stored):
        raise ValueError(
            "its generator has no inverse encoder (prompt2token_proj); files from before May 2024 are of another model"
        )
    inverse, dropped, unknown = {}, {}, []
    for name, tensor in stored.items():
        if _DEAD.match(name):
            dropped[name] = tensor.shape
        elif name.startswith(_TEXT_MODEL):
            inverse[name.removeprefix(_TEXT_MODEL)] = tensor
        elif name != _LAYER_WEIGHTS:
            unknown.append(name)
    if empty := [name for name, tensor in inverse.items() if not tensor.shape or 0 in tensor.shape]:
        raise ValueError(f"its inverse encoder has tensors without values: {_listed(empty)}")
    if unknown:
        raise ValueError(f"its generator has parts that the original's last version does not use: {_listed(unknown)}")
    text = _text_values(record, inverse)
    width = text["hidden_size"]
    weights = stored.get(_LAYER_WEIGHTS)
    if weights is not None and weights.shape not in ((3, 1), (3, width)):
        raise ValueError(f"its layer weights have the shape {weights.shape}, not (3, 1) or (3, {width})")
    pads = record.attribute("pad_embeddings")
    if pads is not None and (type(pads) is not StoredTensor or pads.shape != (text["max_position_embeddings"], width)):
        raise ValueError(f"its pad_embeddings are no tensor of shape ({text['max_position_embeddings']}, {width})")
    return _Subject(
        text,
        {name: _values(archive, name, tensor) for name, tensor in inverse.items()},
        # a run without learned weights takes the last layer alone
        torch.tensor([[0.0], [0.0], [1.0]]) if weights is None else _values(archive, _LAYER_WEIGHTS, weights),
        None if pads is None else _values(archive, "pad_embeddings", pads),
        dropped,
    )


def _text_values(record: Record, inverse: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Sizes of the inverse encoder, from its pickled configuration; those that its tensors show must agree."""
    module = _modules(record).get("prompt2token_proj")
    config = module.attribute("config") if type(module) is Record else None
    given = config.state if type(config) is Record and type(config.state) is dict else {}
    text = {name: given.get(name) for name in TEXT_SIZES}
    if not all(type(size) is int and 0 < size < 1 << 20 for size in text.values()):
        raise ValueError(f"its inverse encoder's configuration lacks sizes, one of {', '.join(TEXT_SIZES)}")
    width = text["hidden_size"]
    layers = {name.split(".")[2] for name in inverse if re.match(r"encoder\.layers\.\d+\.", name)}
    shapes = {
        "embeddings.token_embedding.weight": (text["vocab_size"], width),
        "embeddings.position_embedding.weight": (text["max_position_embeddings"], width),
        "encoder.layers.0.mlp.fc1.weight": (text["intermediate_size"], width),
    }
    wrong = [name for name, shape in shapes.items() if name not in inverse or inverse[name].shape != shape]
    if wrong or len(layers) != text["num_hidden_layers"]:
        raise ValueError(
            f"its inverse encoder has {len(layers)} layers and is configured for {text['num_hidden_layers']}; "
            f"tensors that are not there or of another size: {_listed(wrong) if wrong else 'none'}"
        )
    chosen = {name: given.get(name, usual) for name, usual in TEXT_CHOICES.items()}
    if chosen["hidden_act"] not in ("quick_gelu", "gelu"):
        raise ValueError("its inverse encoder has an activation that no CLIP text model has")
    return text | chosen


def _background(archive: TorchArchive, record: Record) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Sizes (`EncoderConfig.background`) and weights of a background generator."""
    stored = stored_tensors(record)
    needed = ("bg_proj_in.0.weight", "pos_embs", "latent_queries")
    if any(name not in stored or len(stored[name].shape) < 2 for name in needed):
        raise ValueError(f"its background generator lacks one of {', '.join(needed)}; convert it without a background")
    translator = _modules(record).get("prompt_translator")
    dropout = _modules(translator).get("attn_drop")
    sizes: dict[str, Any] = {
        "image_dim": stored["bg_proj_in.0.weight"].shape[1],
        "image_tokens": stored["pos_embs"].shape[1],
        "layers": record.attribute("num_out_layers"),
        "vectors": record.attribute("num_out_embs_per_layer"),
        "heads": translator.attribute("num_heads") if type(translator) is Record else None,
        "dropout": dropout.attribute("p") if type(dropout) is Record else None,
    }
    sizes = {name: value for name, value in sizes.items() if value is not None}  # older files: as the class has them
    return sizes, from_original({name: _values(archive, name, tensor) for name, tensor in stored.items()})


def stored_tensors(record: Record) -> dict[str, StoredTensor]:
    """Parameters and buffers of a module and of those inside it, named as in its state_dict.

    Raises ValueError for a module that is nested in itself, or that holds something else among its tensors.
    """
    found: dict[str, StoredTensor] = {}
    waiting: list[tuple[str, Record, int]] = [("", record, 0)]
    seen = 0
    while waiting:
        prefix, module, depth = waiting.pop()
        seen += 1
        if depth > _DEPTH or seen > _MODULES:
            raise ValueError("its modules are nested too deeply, or shared without end")
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _named(module.attribute(kind), prefix):
                if tensor is not None and type(tensor) is not StoredTensor:
                    raise ValueError(f"its {prefix}{name} is no ordinary tensor")
                if tensor is not None:
                    found[prefix + name] = tensor
        for name, child in reversed(_named(module.attribute("_modules"), prefix)):
            if type(child) is Record:
                waiting.append((f"{prefix}{name}.", child, depth + 1))
    return found


def _modules(record: Any) -> dict[str, Any]:
    return dict(_named(record.attribute("_modules"), "")) if type(record) is Record else {}


def _named(table: Any, prefix: str) -> list[tuple[str, Any]]:
    if table is None:
        return []
    if type(table) is not dict or not all(type(name) is str and re.fullmatch(r"\w+", name) for name in table):
        raise ValueError(f"its module {prefix or 'at the top'} has parts without proper names")
    return list(table.items())


def _values(archive: TorchArchive, name: str, stored: StoredTensor) -> Tensor:
    values = archive.tensor(stored)
    if not values.is_floating_point() or not values.isfinite().all():
        raise ValueError(f"its {name} holds values that are no finite numbers")
    return values.float()


def _listed(names: list[str]) -> str:
    return ", ".join(ascii(name) for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
