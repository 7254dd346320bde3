"""Who the subjects are, by their photos: what the methods will be told of them, before anything is drawn."""

from __future__ import annotations

import io

import numpy as np

from adaface.evaluation.subjects import Subject, check_faces, find_subjects, read_mean_embedding, read_references
from adaface.perception.faces import FaceAnalyser
from data_pipeline.storage import Storage
from ray_jobs.evaluate_config import EvaluateConfig


def know_subjects(config: EvaluateConfig) -> tuple[list[Subject], FaceAnalyser]:
    """The subjects, with what the face pack says of those of whom nobody has said anything, and the pack.

    Raises ValueError for subjects none of whose shown photos has a face, all of them at once.
    """
    faces = FaceAnalyser(config.measures.faces)
    return check_faces(find_subjects(config.subjects), faces, config.subjects.reference_side), faces


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
