"""The steps of a pipeline: albums, dataset, rounds of training, evaluation. Each is made of those before it.

What a step depends on, its settings and the steps that it is made of, is hashed into its key. A step whose key is on
record is not done again. A round with another key is another run, in a folder of its own beside the older one:
runs/stage2, runs/stage2-2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from data_pipeline.storage import Storage, inside
from flows.job_files import read_result
from ray_jobs.config import DatasetConfig, JobConfig
from ray_jobs.config import with_absolute_paths as absolute_dataset
from ray_jobs.config_file import ConfigError, config_hash, load
from ray_jobs.distill import ENCODER, has_encoder
from ray_jobs.distill_config import DistillConfig
from ray_jobs.distill_config import with_absolute_paths as absolute_run
from ray_jobs.evaluate_config import EvaluateConfig
from ray_jobs.evaluate_config import with_absolute_paths as absolute_evaluation
from ray_jobs.evaluate_history import inputs_hash
from ray_jobs.pipeline_config import AlbumConfig, PipelineSection, RoundConfig, setting

Config = TypeVar("Config", bound=JobConfig)

ABOUT = "about.json"  # of an album
_RECORDS = "steps"  # folder of the records: one file per folder that was made
_REPORT = "report/index.html"  # of an evaluation


@dataclass(frozen=True)
class Step:
    """One step, when all before it are done.

    Attributes:
        name: unique in the pipeline.
        job: "render-faces", "build-dataset", "distill" or "evaluate".
        config: the job's whole configuration.
        output: folder or URI that it writes.
        key: hash of all that its result depends on.
        done: whether there is nothing to do.
    """

    name: str
    job: str
    config: JobConfig | AlbumConfig
    output: str
    key: str
    done: bool

    @property
    def job_key(self) -> str:
        """Of the job that makes it: another chain with equal settings writes elsewhere."""
        return _key(self.key, self.output)


def load_pipeline(path: str | Path, overrides: list[str]) -> DatasetConfig:
    """A dataset's configuration with a section `pipeline`, all of whose files are valid.

    Raises ConfigError with the problems of all of them.
    """
    config = load(DatasetConfig, path, overrides)
    section = config.pipeline
    if section is None:
        raise ConfigError([f"{path}: the section `pipeline` is missing; configs/miniature.yaml has one"])
    problems: list[str] = []
    multipliers: dict[str, int] = {}  # of the rounds that can be read
    for each, before in section.starts():
        try:
            copies = round_config(section, each, each.name, config.data.output, None).run_config.multiplier
        except ConfigError as error:
            problems += [f"round {each.name}: {problem}" for problem in error.problems]
            continue
        multipliers[each.name] = copies
        fewest = multipliers.get(before.name, 1) if before else 1
        if before and copies % fewest:
            problems.append(
                f"round {each.name}: its multiplier is {copies}, but {before.name} before it has {fewest}, and keys and "
                f"values can be multiplied, not taken away; ask for {fewest} or a multiple of it"
            )
    try:
        evaluation = evaluation_config(section, [])
    except ConfigError as error:
        problems += [f"evaluation: {problem}" for problem in error.problems]
    else:
        taken = {method.name for method in evaluation.methods} & {each.name for each in section.rounds}
        if taken:
            problems.append(f"{section.evaluate.config} has methods called as rounds are: {', '.join(sorted(taken))}")
    if problems:
        raise ConfigError(problems)
    return config


def step_names(section: PipelineSection) -> list[str]:
    """Of all steps, in order."""
    albums = [_album_name(album) for album in section.draw]
    return [*albums, "dataset", *(each.name for each in section.rounds), "evaluation"]


def steps(config: DatasetConfig, *, absolute: bool = False) -> Iterator[Step]:
    """Every step, done or not. Whoever takes one runs its job, unless it is done, before asking for the next.

    Args:
        config: of `load_pipeline`.
        absolute: local paths are made absolute, for jobs that run in other folders.

    Raises:
        FileNotFoundError: a job has left nothing that is to be seen from here.
        ValueError: an album's folder holds another album.
    """
    section = config.pipeline
    assert section is not None
    records = Storage(inside(section.output, _RECORDS))

    drawn = []
    for album in section.draw:
        yield Step(_album_name(album), "render-faces", album, album.folder, _key(album.size()), _is_drawn(album))
        drawn.append(read_result(Storage(album.folder), ABOUT, "pipeline.draw"))

    dataset = _alone(config)
    sent = absolute_dataset(dataset) if absolute else dataset
    key = _key(dataset.what_it_makes(), drawn)
    out = Storage(sent.data.output)
    record = _Record(records, "dataset", key)
    yield from record.around(Step("dataset", "build-dataset", sent, out.uri, key, record.is_done and _is_built(sent)))

    encoders: dict[str, str] = {}
    keys = _round_keys(section, out)
    for each, before in section.starts():
        init = encoders[before.name] if before else None
        key = keys[each.name]
        record = _free_or_own(section, records, each.name, key)
        run = round_config(section, each, record.name, out.uri, init)
        folder = Storage(run.folder)
        done = _is_trained(record, folder)
        step = Step(each.name, "distill", absolute_run(run) if absolute else run, folder.uri, key, done)
        yield from record.around(step)
        read_result(folder, "run.json", "pipeline.output")
        encoders[each.name] = folder.locate(ENCODER)

    methods = [{"name": name, "kind": "encoder", "path": path} for name, path in encoders.items()]
    evaluation = evaluation_config(section, methods)
    asked = evaluation_config(section, [])
    read = inputs_hash(asked)
    key = _key(asked.what_it_makes(), keys, read)
    record = _Record(records, "evaluation", key)
    out = Storage(evaluation.output)
    # what cannot be read from here may have changed; the job draws only what is missing
    made = out.exists("summary.json") and out.exists(_REPORT)
    done = record.is_done and read is not None and made
    sent_evaluation = absolute_evaluation(evaluation) if absolute else evaluation
    yield from record.around(Step("evaluation", "evaluate", sent_evaluation, out.uri, key, done))
    read_result(out, "summary.json", "pipeline.output")


def rounds_to_train(config: DatasetConfig) -> set[str]:
    """Names of the rounds that are not done under these settings; all of them where the dataset is not."""
    section = config.pipeline
    assert section is not None
    dataset = _alone(config)
    if not _is_built(dataset):
        return {each.name for each in section.rounds}
    records = Storage(inside(section.output, _RECORDS))
    keys = _round_keys(section, Storage(dataset.data.output))
    own = {name: _free_or_own(section, records, name, key) for name, key in keys.items()}
    folders = {name: Storage(inside(runs_of(section), record.name)) for name, record in own.items()}
    return {name for name, record in own.items() if not _is_trained(record, folders[name])}


class _Record:
    """Of what lies in a folder under `pipeline.output`, or was begun there: {"key": ..., "done": bool}."""

    def __init__(self, records: Storage, name: str, key: str):
        self.name, self.key, self._records = name, key, records
        self._file = f"{name}.json"
        self.found = records.read_json(self._file) if records.exists(self._file) else None

    @property
    def is_done(self) -> bool:
        return bool(self.found == {"key": self.key, "done": True})

    def around(self, step: Step) -> Iterator[Step]:
        """Hand the step over; on record is what happens to it."""
        if step.done:
            yield step
            return
        self._records.write_json(self._file, {"key": self.key, "done": False})
        yield step
        self._records.write_json(self._file, {"key": self.key, "done": True})


def _free_or_own(section: PipelineSection, records: Storage, name: str, key: str) -> _Record:
    """The record of the run with this key, or of a folder that no other run has."""
    number = 1
    while True:
        record = _Record(records, name if number == 1 else f"{name}-{number}", key)
        if record.found is None and not Storage(inside(runs_of(section), record.name)).exists("config.yaml"):
            return record
        if record.found is not None and record.found["key"] == key:
            return record
        number += 1


def _alone(config: DatasetConfig) -> DatasetConfig:
    """The dataset's configuration without what comes after it."""
    return config.model_copy(update={"pipeline": None})


def _is_built(dataset: DatasetConfig) -> bool:
    out = Storage(dataset.data.output)
    return out.exists("dataset.json") and out.read_json("dataset.json")["config_hash"] == config_hash(dataset)


def _is_trained(record: _Record, folder: Storage) -> bool:
    return record.is_done and folder.exists("run.json") and has_encoder(folder)


def _round_keys(section: PipelineSection, dataset: Storage) -> dict[str, str]:
    """{round: key}, of a dataset that is built. Equal shards are equal data, wherever and by whichever command they
    were made."""
    data = _key(read_result(dataset, "dataset.json", "data.output")["shards"])
    keys: dict[str, str] = {}
    for each, before in section.starts():
        own = round_config(section, each, each.name, dataset.uri, None)
        settings = _what_a_round_makes(own, after_another=before is not None)
        keys[each.name] = _key(settings, keys[before.name] if before else data)
    return keys


def round_config(
    section: PipelineSection, each: RoundConfig, name: str, dataset: str, init: str | None
) -> DistillConfig:
    """A round's configuration; without `init` it starts from what its file says."""
    given = [setting("output", runs_of(section)), setting("name", name), setting("stage", each.stage)]
    given.append(setting("data.datasets", [dataset]))
    if init is not None:
        given.append(setting(f"stage{each.stage}.init", init))
    overrides = [*section.distill.overrides(), *each.overrides(), *given]
    return load(DistillConfig, section.distill.config, overrides)


def evaluation_config(section: PipelineSection, encoders: list[dict[str, str]]) -> EvaluateConfig:
    """The evaluation's configuration, with these methods after its own."""
    given = [*section.evaluate.overrides(), setting("output", inside(section.output, "evaluation"))]
    config = load(EvaluateConfig, section.evaluate.config, given)
    more = [setting(f"methods.{len(config.methods) + place}", method) for place, method in enumerate(encoders)]
    return load(EvaluateConfig, section.evaluate.config, [*given, *more])


def _what_a_round_makes(config: DistillConfig, *, after_another: bool) -> dict[str, Any]:
    """Without where its data and the encoder before it lie, which are known by what they are."""
    settings = config.what_it_makes()
    del settings["data"]["datasets"]
    if after_another:
        del settings["run"]["init"]
    return settings


def draw_album(album: AlbumConfig) -> None:
    """As `adaface render-faces` does."""
    from adaface.miniature.album.plan import AlbumSize
    from adaface.miniature.album.write import write_album

    write_album(album.folder, AlbumSize(**album.size()))


def runs_of(section: PipelineSection) -> str:
    """The folder of the rounds' runs."""
    return inside(section.output, "runs")


def _album_name(album: AlbumConfig) -> str:
    return f"album-{Path(album.folder).name}"


def _is_drawn(album: AlbumConfig) -> bool:
    """Whether the album lies there; ValueError for another one."""
    from adaface.miniature.album.plan import AlbumSize

    size = asdict(AlbumSize(**album.size()))
    folder = Storage(album.folder)
    if not folder.exists(ABOUT):
        return False
    about = folder.read_json(ABOUT)
    other = {name: about.get(name) for name, value in size.items() if about.get(name) != value}
    if other:
        said = ", ".join(f"{name} {value} instead of {size[name]}" for name, value in other.items())
        raise ValueError(f"{album.folder} holds another album: {said}; remove it, or name another folder")
    return True


def _key(*about: Any) -> str:
    canonical = json.dumps(about, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]
