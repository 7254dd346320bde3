"""The doctor's look at a configuration: its model files with their hashes, its sources, its output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.doctor import Finding
from flows.doctor_machine import check_disk

if TYPE_CHECKING:
    from data_pipeline.config import DataConfig
    from ray_jobs.config import DatasetConfig, JobConfig


def examine_config(config_file: str, overrides: Sequence[str] = ()) -> Iterator[Finding]:
    """Everything that the job needs whose configuration this is; one with problems is not looked into."""
    from ray_jobs.config import DatasetConfig
    from ray_jobs.config_file import ConfigError, config_hash, load
    from ray_jobs.distill_config import DistillConfig
    from ray_jobs.evaluate_config import EvaluateConfig

    job, model = job_of(config_file)
    try:
        config = load(model, config_file, overrides)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("fail", "config", problem, "correct it there")
        return
    yield Finding("ok", "config", f"{config_file}, of {job}, hash {config_hash(config)}")
    if isinstance(config, DatasetConfig):
        yield from check_models(config)
        yield from check_sources(config.data)
        yield from check_output(config.data.output)
        if config.pipeline is not None:
            yield from _check_pipeline(config_file, overrides)
    elif isinstance(config, DistillConfig):
        from ray_jobs.distill_preflight import problems_of

        yield from check_inputs(problems_of(config), "models and datasets")
        yield from check_output(config.folder, "the run", "output")
    else:
        from adaface.evaluation.preflight import problems
        from ray_jobs.evaluate_config import with_encoders_here

        assert isinstance(config, EvaluateConfig)
        try:
            found = problems(with_encoders_here(config))
        except (OSError, ValueError) as error:  # of an object store
            found = [str(error)]
        yield from check_inputs(found, "subjects, prompts and models")
        yield from check_output(config.output, "the evaluation", "output")


def _check_pipeline(config_file: str, overrides: Sequence[str]) -> Iterator[Finding]:
    from flows.pipeline_preflight import problems_here
    from flows.pipeline_steps import load_pipeline
    from ray_jobs.config_file import ConfigError

    try:
        problems = problems_here(load_pipeline(config_file, [*overrides]))
    except ConfigError as error:
        problems = error.problems
    yield from check_inputs(problems, "what the pipeline's rounds and evaluation need")


def job_of(config_file: str) -> tuple[str, type[JobConfig]]:
    """The job that has most of the sections of this file, and its configuration; for no such file, build-dataset."""
    import yaml

    from ray_jobs.config import DatasetConfig
    from ray_jobs.distill_config import DistillConfig
    from ray_jobs.evaluate_config import EvaluateConfig

    jobs: dict[str, type[JobConfig]] = {
        "build-dataset": DatasetConfig,
        "evaluate": EvaluateConfig,
        "distill": DistillConfig,
    }
    try:
        sections = yaml.safe_load(Path(config_file).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):  # `load` says what is wrong with it
        sections = None
    known = sections.keys() if isinstance(sections, dict) else set()
    return max(jobs.items(), key=lambda job: len(known & job[1].model_fields.keys()))


def check_inputs(problems: Sequence[str], what: str) -> Iterator[Finding]:
    """What a job finds before it begins."""
    for problem in problems:
        yield Finding("fail", "inputs", problem, "correct it, or the configuration")
    if not problems:
        yield Finding("ok", "inputs", f"{what} are there")


def check_models(config: DatasetConfig) -> Iterator[Finding]:
    """What a build itself checks first: model files, rules that no image could pass, evaluation embeddings."""
    from adaface.perception.onnx_session import providers
    from ray_jobs.preflight import check

    try:
        providers(config.perception.device)
    except ValueError as error:
        yield Finding("fail", "models", str(error), "make gpu, or perception.device: auto")
    try:
        checked = check(config)
    except ValueError as error:
        yield Finding("fail", "models", str(error), "complete the files, or correct their paths in the configuration")
        return
    for role, model in checked.models.items():
        yield Finding("ok", "models", f"{role}: {model['file']}, sha256 {model['sha256']}")
    if config.perception.attributes and "genderage" not in checked.models:
        said = f"{config.perception.pack} has no model for gender and age: every identity is called a person"
        yield Finding("info", "models", said)
    if config.perception.parser is None:
        yield Finding("info", "models", "no face parser: the dataset will have no masks")
    if config.data.eval_identities:
        yield Finding("ok", "models", f"{len(checked.eval_means)} evaluation identities to keep out")


def check_sources(data: DataConfig) -> Iterator[Finding]:
    """Whether each source can be reached. Nothing is counted: a source may hold millions of photos."""
    from data_pipeline.storage import Storage

    for source in data.sources:
        try:
            there = Storage(_home(source.path)).exists("")
        except (OSError, ValueError) as error:
            remedy = "check the address, the credentials and the network"
            yield Finding("fail", "sources", f"{source.label}: {source.path} cannot be reached: {error}", remedy)
            continue
        if there:
            yield Finding(
                "ok", "sources", f"{source.label}: {source.path} ({source.layout}, licence: {source.licence})"
            )
        else:
            remedy = "correct the path in data.sources; it is relative to the folder the command runs in"
            yield Finding("fail", "sources", f"{source.label}: nothing at {source.path}", remedy)


def check_output(output: str, what: str = "the dataset", key: str = "data.output") -> Iterator[Finding]:
    """Whether the result can be written, and whether there is one already."""
    from data_pipeline.storage import Storage, is_uri

    output = _home(output)
    if not is_uri(output):
        folder = Path(output).resolve()
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            yield Finding("fail", "output", f"{output} cannot be written: {folder} refuses it", f"change {key}")
            return
        yield from check_disk(folder, f"{what} {output}", area="output")
    try:
        started = Storage(output).exists("config.yaml")
    except (OSError, ValueError) as error:
        remedy = "check the address, the credentials and the network"
        yield Finding("fail", "output", f"{output} cannot be reached: {error}", remedy)
        return
    if started:
        yield Finding("info", "output", f"{what} {output} has been begun: the job continues it")
    elif is_uri(output):
        yield Finding("ok", "output", f"{output} can be reached; whether it can be written shows the first run")


def _home(path: str) -> str:
    return os.path.expanduser(path) if path.startswith("~") else path
