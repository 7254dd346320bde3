"""Who and what an evaluation is about: subjects and prompts with which nothing is wrong, before anything is written."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from adaface.evaluation.preflight import look
from adaface.evaluation.prompts import Prompt
from adaface.evaluation.scene_factors import factor_problems
from adaface.evaluation.subjects import Subject, look_at_faces, read_mean_embedding, read_references
from adaface.perception.faces import FaceAnalyser
from data_pipeline.storage import Storage
from ray_jobs.config_file import ConfigError
from ray_jobs.evaluate_config import EncoderPath, EvaluateConfig, with_encoders
from ray_jobs.fetched import fetched


@dataclass(frozen=True)
class Input:
    """What is asked, and of whom.

    Attributes:
        subjects: with what the face pack says of those of whom nobody has said anything.
        faces: the face pack, loaded.
    """

    subjects: list[Subject]
    prompts: list[Prompt]
    faces: FaceAnalyser


def check_input(config: EvaluateConfig) -> Input:
    """Look at everything that a run reads, with the face pack and the scene classifier; nothing is written.

    Raises ConfigError with everything that is wrong: what `preflight.problems` says, photos without a face, and what
    prompts expect and the classifier does not read.
    """
    seen = look(with_encoders(config, fetched_if_there))
    problems, subjects, faces = list(seen.problems), seen.subjects, None
    try:
        faces = FaceAnalyser(config.measures.faces)
    except (ValueError, FileNotFoundError) as error:
        problems.append(f"measures.faces: {error}")
    if faces is not None:
        subjects, wrong = look_at_faces(seen.subjects, faces, config.subjects.reference_side)
        problems += wrong
    problems += _factor_problems(config, seen.prompts, seen.problems)
    if problems or faces is None:
        raise ConfigError(list(dict.fromkeys(problems)))  # the pack's may be there twice
    return Input(subjects, seen.prompts, faces)


def fetched_if_there(path: EncoderPath) -> EncoderPath:
    """A path at which there is nothing stays, and is one problem among others."""
    try:
        return fetched(path) if isinstance(path, str) else path
    except OSError:
        return path


def _factor_problems(config: EvaluateConfig, prompts: list[Prompt], said: list[str]) -> list[str]:
    key = "measures.scene_classifier"
    if any(problem.startswith(key) for problem in said):
        return []
    try:
        return list(factor_problems(config.measures, prompts))
    except (ValueError, OSError) as error:  # weights that are not there, say
        return [f"{key}: {error}"]


def know_ids(out: Storage, subject: Subject, faces: FaceAnalyser, digest: str) -> np.ndarray:
    """(N, id_dim) float32 unit ID embeddings of the photos that the methods are shown; rows of zeros: no face.

    Kept under `digest`, which says what they depend on. Photos are read at their full size, as a user's would be.
    """
    if subject.mean_embedding is not None:
        return read_mean_embedding(subject.mean_embedding)[None]
    name = f"ids/{subject.name}-{digest[:12]}.npy"
    if out.exists(name):
        return np.asarray(np.load(io.BytesIO(out.read_bytes(name)), allow_pickle=False))
    photos = read_references(subject)
    found = faces.analyse([photos[index] for index in subject.given])
    nobody = np.zeros(faces.id_dim, np.float32)
    ids = np.stack([nobody if one.embedding is None else one.embedding for one in found])
    file = io.BytesIO()
    np.save(file, ids)
    out.write_bytes(name, file.getvalue())
    return ids
