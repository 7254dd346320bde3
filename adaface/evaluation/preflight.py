"""What is wrong with an evaluation, all of it at once, before any network is loaded: photos, prompts, metrics, models.

Whether the photos show faces needs the detector, and what the scene classifier reads the classifier: those who have
them, `ray_jobs.evaluate_input`, look on with the subjects and prompts that were found here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from adaface.evaluation.base_text import text_sizes
from adaface.evaluation.prompt_length import open_tokenizer, too_long
from adaface.evaluation.prompts import Prompt, read_prompts
from adaface.evaluation.subjects import Subject, read_mean_embedding, search_subjects
from adaface.model_path import may_be_on_the_hub, model_path

if TYPE_CHECKING:
    from adaface.evaluation.config import EntryPointConfig, EvaluationConfig, FunctionConfig, MethodConfig


def problems(config: EvaluationConfig) -> list[str]:
    """One sentence for each problem; empty when the evaluation can begin. Takes seconds and changes nothing."""
    return look(config).problems


def model_problems(config: EvaluationConfig) -> list[str]:
    """Those of models and methods alone, for an evaluation whose photos are still to come."""
    id_dim, wrong = _id_dim(config)
    found = [*_measure_problems(config), *wrong, *_base_tokenizer(config.generation.base)[1]]
    for method in config.methods:
        found += [f"method {method.name}: {sentence}" for sentence in _method_problems(method, config, id_dim)]
    return found


@dataclass(frozen=True)
class Look:
    """What was seen without a network.

    Attributes:
        subjects: with whose folders and photos nothing is wrong.
        prompts: those that can be used.
        problems: one sentence for each.
    """

    subjects: list[Subject]
    prompts: list[Prompt]
    problems: list[str]


def look(config: EvaluationConfig) -> Look:
    """As `problems`, with what there is to go on with."""
    subjects, found = search_subjects(config.subjects)
    incomplete = bool(found)
    unreadable = dict(_photo_problems(subjects))
    found += [f"subject {subject}: {said}" for (subject, _), said in unreadable.items()]
    chosen = config.prompts
    prompts, wrong = read_prompts(chosen.sets, chosen.limit, chosen.placement)
    found += wrong
    found += _metric_problems(config, subjects, prompts, incomplete=incomplete)
    found += _measure_problems(config)
    id_dim, wrong = _id_dim(config)
    found += wrong
    found += _mean_problems(subjects, id_dim)
    tokenizer, wrong = _base_tokenizer(config.generation.base)
    found += wrong
    for method in config.methods:
        found += [f"method {method.name}: {sentence}" for sentence in _method_problems(method, config, id_dim)]
    if tokenizer is not None:
        found += _length_problems(config, subjects, prompts, tokenizer)
    spoilt = {subject for subject, _ in unreadable}
    return Look([subject for subject in subjects if subject.name not in spoilt], prompts, found)


# Subjects


def _photo_problems(subjects: Sequence[Subject]) -> Iterator[tuple[tuple[str, Path], str]]:
    """((subject, file), what is wrong) for files that are no pictures at all; headers are read, not pixels."""
    from adaface.subjects.faces_of import FORMATS

    for subject in subjects:
        for photo in subject.photos:
            try:
                with Image.open(photo, formats=FORMATS):
                    pass
            except UnidentifiedImageError:
                yield (subject.name, photo), f"{photo} is not a picture; take it out of the folder"
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                yield (subject.name, photo), f"{photo} cannot be read: {error}"


def _mean_problems(subjects: Sequence[Subject], id_dim: int | None) -> Iterator[str]:
    for subject in subjects:
        if subject.mean_embedding is None:
            continue
        try:
            length = len(read_mean_embedding(subject.mean_embedding))
        except ValueError as error:
            yield f"subject {subject.name}: {error}"
            continue
        if id_dim is not None and length != id_dim:
            yield (
                f"subject {subject.name}: {subject.mean_embedding} has {length} values, the recogniser of measures.faces "
                f"gives {id_dim}: it is of another one. Set subjects.mean_embedding to false"
            )


# What measures


def _metric_problems(
    config: EvaluationConfig, subjects: Sequence[Subject], prompts: Sequence[Prompt], *, incomplete: bool
) -> Iterator[str]:
    """`incomplete`: there are more subjects, of which something else is wrong."""
    from adaface.evaluation.metrics.registry import metrics_for

    try:
        metrics = metrics_for(
            config.measures,
            baseline=config.baseline is not None,
            held_back=incomplete or any(subject.held_back for subject in subjects),
            prompts=prompts or None,
        )
    except ValueError as error:
        yield from str(error).splitlines()
        return
    asked = config.measures.metrics or ()
    if "identity_gap" in asked and len(subjects) == 1 and not incomplete:
        yield "metric identity_gap compares with other people, and there is only one subject; add another"
    if not metrics:
        yield "measures.metrics: nothing is measured"


def _measure_problems(config: EvaluationConfig) -> Iterator[str]:
    measures = config.measures
    if measures.clip is not None:
        yield from _missing_model(measures.clip, "measures.clip")
    for name, encoder in measures.image_encoders.items():
        if hasattr(encoder, "model"):
            yield from _missing_model(encoder.model, f"measures.image_encoders.{name}.model")
        else:
            yield from _missing_function(encoder, f"measures.image_encoders.{name}")
    if measures.scene_classifier is not None:
        yield from _missing_function(measures.scene_classifier, "measures.scene_classifier")


def _id_dim(config: EvaluationConfig) -> tuple[int | None, list[str]]:
    """The length of the first recogniser's embeddings, where its file says it, and what is wrong with recognisers."""
    from adaface.perception.pack import embedding_length, resolve_pack, sha256

    measures = config.measures
    wrong: list[str] = []
    used: dict[str, str] = {}
    id_dim = None
    try:
        pack = resolve_pack(measures.faces.pack, measures.faces.recognition_file)
        id_dim = embedding_length(pack.files["recognition"])
        used[sha256(pack.files["recognition"])] = measures.first
    except (ValueError, FileNotFoundError) as error:
        wrong.append(f"measures.faces: {error}")
    for judge in measures.judges:
        try:
            file = model_path(judge.file)
            if not file.is_file():
                raise ValueError(f"there is no file {file}; name the .onnx file of a recogniser")
            embedding_length(file)
        except ValueError as error:
            wrong.append(f"measures.judges {judge.name}: {error}")
            continue
        other = used.setdefault(sha256(file), judge.name)
        if other != judge.name:
            wrong.append(
                f"measures.judges {judge.name}: {file} is the same network as {other}; a judge must be another"
            )
    return id_dim, wrong


# What draws


def _base_tokenizer(base: str) -> tuple[Any | None, list[str]]:
    """The tokenizer of the base model, where it is on this machine, and what is wrong with the base."""
    if wrong := list(_missing_model(base, "generation.base", slashes=1)):
        return None, wrong
    try:
        return open_tokenizer(base), []
    except (ValueError, FileNotFoundError) as error:
        return None, [f"generation.base: {error}"]


def _method_problems(method: MethodConfig, config: EvaluationConfig, id_dim: int | None) -> Iterator[str]:
    if method.kind == "teacher":
        yield from _missing_model(method.unet, "unet")
        yield from _missing_model(method.text_encoder, "text_encoder")
        if method.tokenizer is not None:
            yield from _missing_model(method.tokenizer, "tokenizer")
    elif method.kind == "entry_point":
        yield from _missing_function(method, "entry_point", {"generation": config.generation})
    elif method.kind == "encoder":
        yield from _encoder_problems(method.path, config.generation.base, id_dim)


def _encoder_problems(path: str | list[str], base: str, id_dim: int | None) -> Iterator[str]:
    from adaface.evaluation.encoder_problems import encoder_problems
    from adaface.evaluation.methods.encoder import newest_encoder

    try:
        if (
            isinstance(path, str)
            and not model_path(path).exists()
            and not list(_missing_model(path, "path", slashes=1))
        ):
            return  # of the hub; it is downloaded later
        folder = newest_encoder(path)
    except (ValueError, FileNotFoundError) as error:
        yield str(error)
        return
    yield from encoder_problems(folder, id_dim=id_dim, width=_text_width(base))


def _text_width(base: str) -> int | None:
    """D of the base's text encoder, where its configuration is on this machine."""
    from adaface.evaluation.methods.model_files import local_folder

    try:
        folder = local_folder(base)
    except ValueError:  # said already
        return None
    return None if folder is None else text_sizes(folder).get("hidden_size")


def stands_for_a_folder(path: str) -> bool:
    """Whether the path of an encoder is one of this machine, there or not, and no name of the hub."""
    return model_path(path).exists() or bool(list(_missing_model(path, "path", slashes=1)))


def _missing_model(name: str, option: str, slashes: int = 9) -> Iterator[str]:
    """A path that does not exist. A name of the hub, with at most so many slashes, is believed."""
    try:
        path = model_path(name)
    except ValueError as error:
        yield f"{option}: {error}"
        return
    if not path.exists() and not may_be_on_the_hub(name, slashes):
        yield f"{option}: there is no {name} here; give a folder or a name of the hub"


def _missing_function(
    named: FunctionConfig | EntryPointConfig, option: str, offered: Mapping[str, Any] | None = None
) -> Iterator[str]:
    from adaface.evaluation.entry_points import find_entry_point, with_offered

    try:
        function = find_entry_point(named.entry_point)
        signature(function).bind(**with_offered(function, named.settings, offered or {}))
    except ValueError as error:
        yield f"{option}: {error}"
    except TypeError as error:
        yield f"{option}: {named.entry_point} does not take these settings: {error}"


def _length_problems(
    config: EvaluationConfig, subjects: Sequence[Subject], prompts: Sequence[Prompt], tokenizer: Any
) -> list[str]:
    """Prompts that are too long, for any class word of the run, and with vectors where an encoder is in it."""
    from adaface.encoder.config import VECTORS
    from adaface.perception.person_type import PERSON_TYPES

    words = {subject.class_word for subject in subjects if subject.type_from != "nobody"}
    if not subjects or any(subject.type_from == "nobody" for subject in subjects):  # the face pack will say
        words |= set(PERSON_TYPES)
    wrong = too_long(tokenizer, prompts, words)
    if any(method.kind == "encoder" for method in config.methods):
        wrong += too_long(tokenizer, prompts, (), VECTORS)
    return wrong
