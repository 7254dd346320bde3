"""Checks before any expensive work: model files, rules that no image could pass, evaluation embeddings. All problems
at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaface.model_path import model_path
from adaface.perception.classes import CLASS_NAMES
from adaface.perception.config import OnnxParserConfig
from adaface.perception.onnx_session import providers
from adaface.perception.pack import embedding_length, resolve_pack, sha256
from data_pipeline.identities import load_eval_means
from data_pipeline.sources import source_problems
from ray_jobs.config import DatasetConfig


@dataclass(frozen=True)
class Checked:
    models: dict[str, dict[str, str]]  # role -> {"file": name, "sha256"}
    eval_means: np.ndarray  # (E, D) float32, unit norm
    id_dim: int | None  # length of the embeddings, where the recogniser's file declares it

    @property
    def model_hashes(self) -> dict[str, str]:
        return {role: model["sha256"] for role, model in self.models.items()}


def check(config: DatasetConfig) -> Checked:
    """Everything about a configuration that can be checked in seconds, without listing the sources.

    Raises:
        ValueError: with every problem found.
    """
    problems: list[str] = []
    files: dict[str, Path] = {}
    try:
        pack = resolve_pack(config.perception.pack, config.perception.recognition_file)
        roles = ("detection", "recognition") + (("genderage",) if config.perception.attributes else ())
        files = {role: pack.files[role] for role in roles if role in pack.files}
    except (ValueError, FileNotFoundError) as error:
        problems.append(str(error))
    parser = config.perception.parser
    if parser is not None:
        try:
            path = model_path(parser.file)
        except ValueError as error:
            problems.append(str(error))
        else:
            if path.is_file():
                files["parser"] = path
            else:
                problems.append(
                    f"face parser {parser.file} does not exist; set perception.parser.file, or perception.parser to null"
                )
    problems += _impossible_rules(config)

    id_dim = embedding_length(files["recognition"]) if "recognition" in files else None
    means = np.zeros((0, id_dim or 1), np.float32)
    try:
        means, _ = load_eval_means(config.data.eval_identities, id_dim)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    models = {role: {"file": path.name, "sha256": sha256(path)} for role, path in sorted(files.items())}
    return Checked(models, means, id_dim)


def check_all(config: DatasetConfig, *, here: bool) -> Checked:
    """`check`, and whether the sources are there.

    Args:
        here: the networks will run on this machine, so that its devices can be checked; a cluster's cannot from here.

    Raises:
        ValueError: with every problem found.
    """
    problems: list[str] = []
    checked = None
    try:
        if here:
            providers(config.perception.device)
    except ValueError as error:
        problems.append(str(error))
    try:
        checked = check(config)
    except ValueError as error:
        problems.append(str(error))
    problems += source_problems(config.data)
    if problems or checked is None:
        raise ValueError("\n".join(problems))
    return checked


def _impossible_rules(config: DatasetConfig) -> list[str]:
    data, parser = config.data, config.perception.parser
    problems = []
    known = len(CLASS_NAMES)
    if isinstance(parser, OnnxParserConfig):
        known = len({*parser.channels, "background"})
    if parser is not None and data.min_parts is not None and data.min_parts > known:
        problems.append(
            f"data.min_parts is {data.min_parts}, but the parser knows {known} classes, background "
            "included: every image would be rejected. Set data.min_parts to what a whole face shows, or to null"
        )
    if isinstance(parser, OnnxParserConfig) and data.min_face_seen and "skin" not in parser.channels:
        problems.append(
            f"data.min_face_seen is {data.min_face_seen}, but the parser does not know skin: every image would be "
            "rejected. Set data.min_face_seen to null"
        )
    if data.min_parts is not None and data.max_parts is not None and data.min_parts > data.max_parts:
        problems.append(f"data.min_parts ({data.min_parts}) is above data.max_parts ({data.max_parts})")
    return problems
