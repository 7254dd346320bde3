"""What a picture and its measures depend on, as hashes: what is there under the same hash need not be made again.

Photos, models and the code of entry points count by their content, not by where they lie.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaface.evaluation.config import EntryPointConfig, FunctionConfig
from adaface.evaluation.entry_points import find_entry_point, open_entry_point
from adaface.evaluation.methods.encoder import encoder_files, newest_encoder
from adaface.evaluation.methods.model_files import pinned
from adaface.evaluation.plan import Part, Picture
from adaface.evaluation.prompts import Prompt
from adaface.evaluation.subjects import Subject
from adaface.model_path import model_path
from adaface.perception.pack import resolve_pack, sha256
from ray_jobs.evaluate_config import EvaluateConfig, with_encoders_here

_PATHS = ("unet", "text_encoder", "tokenizer", "path")
_MODEL_FILES = (".safetensors", ".bin", ".onnx", ".pt", ".pth", ".ckpt", ".json", ".txt")
# Raise them when drawing or measuring changes its meaning: what older versions made is then made again.
_DRAW_VERSION = 1
_MEASURE_VERSION = 1
_PARITY_VERSION = 2  # likewise, of mode parity alone


@dataclass(frozen=True)
class Digests:
    """Hashes as hexadecimal text.

    Attributes:
        models: {role: hash} of every model, for the report; of one of the hub its name and commit.
        methods: what the pictures of each method depend on besides subject, prompt and seed.
        method_files: of each method's settings and files alone: the same encoder has the same one in every protocol.
        subjects: what methods are shown of each subject.
        references: what the features of each subject's photos depend on.
        measures: the models that measure, and how they are used.
    """

    models: dict[str, str]
    methods: dict[str, str]
    method_files: dict[str, str]
    subjects: dict[str, str]
    references: dict[str, str]
    measures: str

    def of_picture(self, picture: Picture, prompt: Prompt, class_word: str) -> str:
        about = (self.methods[picture.method], self.subjects[picture.subject], prompt.text, class_word, picture.seed)
        return digest([*about])

    def of_part(self, part: Part, prompts: dict[str, Prompt], class_words: dict[str, str]) -> str:
        """Of the features of a part."""
        word = class_words[part.subject]
        pictures = [self.of_picture(picture, prompts[picture.prompt_id], word) for picture in part.pictures]
        return digest([self.measures, *pictures])


def make_digests(config: EvaluateConfig, subjects: Sequence[Subject]) -> Digests:
    """Reads every model file and photo once. Of models, entry points of `measures` alone are opened, to see their files."""
    config = with_encoders_here(config)
    settings = config.protocol()
    generation = {key: value for key, value in settings["generation"].items() if key != "images_per_prompt"}
    measures = {key: value for key, value in settings["measures"].items() if key not in ("metrics", "bootstrap")}
    models = dict(_models(config))
    methods, files = {}, {}
    for method in config.methods:
        described = method.model_dump(mode="json")
        own = {role: value for role, value in models.items() if role.startswith(f"{method.name}: ")}
        # where the files lie does not matter, what is in them does
        said = {key: value for key, value in described.items() if key not in _PATHS and key != "name"}
        files[method.name] = digest([said, list(own.values())])
        methods[method.name] = digest([_DRAW_VERSION, files[method.name], generation, models["base"]])
    packs = {role: value for role, value in models.items() if role.startswith("faces: ")}
    measured = {role: value for role, value in models.items() if role.startswith(("faces: ", "measures: "))}
    known, references = {}, {}
    version = [_MEASURE_VERSION, *([_PARITY_VERSION] if config.measures.mode == "parity" else [])]
    measure = digest([*version, measures, measured])
    for subject in subjects:
        photos = [sha256(photo) for photo in subject.photos]
        mean = sha256(subject.mean_embedding) if subject.mean_embedding else None
        known[subject.name] = digest(
            [[photos[index] for index in subject.given], mean, packs, settings["measures"]["faces"]]
        )
        references[subject.name] = digest(
            [measure, settings["subjects"]["reference_side"], photos, [*subject.given], mean]
        )
    return Digests(models, methods, files, known, references, measure)


def _models(config: EvaluateConfig) -> Iterator[tuple[str, str]]:
    yield "base", path_hash(config.generation.base)
    for method in config.methods:
        if method.kind == "teacher":
            for role in ("unet", "text_encoder", "tokenizer"):
                if name := getattr(method, role):
                    yield f"{method.name}: {role}", path_hash(name)
        elif method.kind == "encoder":
            for file, value in sorted(encoder_files(newest_encoder(method.path)).items()):
                yield f"{method.name}: {file}", value
        elif method.kind == "entry_point":
            # not opened, which may take a GPU and minutes
            yield f"{method.name}: entry_point", _entry_point_hash(method)
    measures = config.measures
    pack = resolve_pack(measures.faces.pack, measures.faces.recognition_file)
    for role in ("detection", "recognition"):
        yield f"faces: {role}", sha256(pack.files[role])
    for judge in measures.judges:
        yield f"measures: {judge.name}", path_hash(judge.file)
    if measures.clip:
        yield "measures: clip", path_hash(measures.clip)
    for name, encoder in measures.image_encoders.items():
        if hasattr(encoder, "model"):
            yield f"measures: {name}", path_hash(encoder.model)
        else:
            yield f"measures: {name}", _function_hash(encoder)
    if measures.scene_classifier is not None:
        yield "measures: scene_classifier", _function_hash(measures.scene_classifier)


def _function_hash(named: FunctionConfig) -> str:
    """With the `file` that the object itself names, if it does."""
    file = getattr(open_entry_point(named.entry_point, named.settings), "file", None)
    return digest([_entry_point_hash(named), sha256(file) if isinstance(file, Path) and file.is_file() else None])


def _entry_point_hash(named: FunctionConfig | EntryPointConfig) -> str:
    """Of the code, that is of the modules that it is named by and written in, and of the files that settings name."""
    found = find_entry_point(named.entry_point)
    modules = {named.entry_point.partition(":")[0], str(getattr(found, "__module__", ""))}
    files = [getattr(sys.modules.get(module), "__file__", None) for module in sorted(modules)]
    given = {key: _content(value) for key, value in named.settings.items() if isinstance(value, str)}
    return digest([[sha256(file) for file in files if file], given])


def _content(setting: str) -> str:
    """Of the file or folder that it names; any other word is itself."""
    if Path(setting).name in ("", ".."):  # not all that lies here or above
        return setting
    try:
        return _hash_here(model_path(setting)) or setting
    except (OSError, ValueError):  # too long for a path; no such package
        return setting


def path_hash(name: str) -> str:
    """Of a model file, or of the model files of a folder; of a model of the hub, its name and commit."""
    return _hash_here(model_path(name)) or pinned(name)


def _hash_here(path: Path) -> str | None:
    if path.is_file():
        return sha256(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _MODEL_FILES and file.is_file())
        return digest([[str(file.relative_to(path)), sha256(file)] for file in files])
    return None


def digest(about: list[Any]) -> str:
    """sha256 of anything that JSON has a form for."""
    canonical = json.dumps(about, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def part_file(part: Part, digest: str) -> str:
    """Where the features of a part lie; the name says what they depend on, so that a listing tells what is done."""
    return f"features/{part.name}-{digest[:12]}.parquet"


def reference_file(subject: Subject, digest: str) -> str:
    return f"references/{subject.name}-{digest[:12]}.parquet"
