"""A local Ray for the whole folder, and builds of the tiny world."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from ray_jobs.build_dataset import run
from ray_jobs.config import DatasetConfig, JobConfig
from ray_jobs.distill_config import DistillConfig
from tests.ray_jobs.job_process import Job
from tests.tiny_distill import make_dataset, make_models
from tests.tiny_distill import settings as distill_settings
from tests.tiny_world import make_pack, make_parser, make_photos, settings

# What may differ between two builds of the same inputs: times, and the page that shows them.
_OF_ONE_RUN = (".lock", "config.yaml", "progress.json", "runs/", "report/", "cache/")


@pytest.fixture(scope="session")
def local_ray(s3: Callable[[], str]) -> Iterator[None]:
    """Started after the S3 server, whose address workers find in the environment that they inherit."""
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos of 4 people, for all tests: not to be changed."""
    return make_photos(tmp_path_factory.mktemp("world") / "photos")


@pytest.fixture(scope="session")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_parser(tmp_path_factory.mktemp("parser") / "parser.onnx")


@pytest.fixture
def config(photos: Path, pack: Path, parser: Path, tmp_path: Path) -> Callable[..., DatasetConfig]:
    """Makes a configuration of `photos` and `pack`; keywords are keys of `data`."""

    def make(out: str | Path = tmp_path / "out", source: str | Path = photos, **data: Any) -> DatasetConfig:
        return _config(source, pack, parser, out, **data)

    return make


def _config(source: str | Path, pack: Path, parser: Path, out: str | Path, **data: Any) -> DatasetConfig:
    sources = [{"path": str(source), "name": "tiny", "licence": "test"}]
    mapping = settings(Path("unused"), pack, out, **{"sources": sources, **data})
    mapping["perception"]["parser"] = {
        "kind": "onnx",
        "file": str(parser),
        "channels": ["skin", "hair"],
        "threshold": 0.5,
    }
    return DatasetConfig.model_validate(mapping)


@pytest.fixture(scope="session")
def made(local_ray: None, photos: Path, pack: Path, parser: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One undisturbed build of `photos`, for all tests: not to be changed."""
    out = tmp_path_factory.mktemp("made") / "out"
    run(_config(photos, pack, parser, out))
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed build, where `config()` builds by default."""
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def build(local_ray: None) -> Callable[[DatasetConfig], dict[str, Any]]:
    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str, JobConfig], Job]]:
    """Starts a job, `ray_jobs.NAME`, as a process of its own, which does not outlive the test."""
    jobs: list[Job] = []

    def begin(name: str, config: JobConfig) -> Job:
        file = tmp_path / "job.yaml"
        file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        jobs.append(Job(f"ray_jobs.{name}", file, tmp_path / f"job-{len(jobs)}.log"))
        return jobs[-1]

    yield begin
    for job in jobs:
        if job.process.poll() is None:
            job.kill()


def content(out: Path) -> dict[str, str]:
    """sha256 of every file of a build that must not depend on when or how often it ran."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not (name := path.relative_to(out).as_posix()).startswith(_OF_ONE_RUN)
    }


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Time of change and sha256 of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of networks and of a dataset for trainings, see `tests.tiny_distill`: not to be changed."""
    return make_models(tmp_path_factory.mktemp("models")), make_dataset(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="session")
def configs(tiny: tuple[Path, Path]) -> Callable[..., DistillConfig]:
    """Makes configurations of tiny trainings; keywords are sections that change, the first argument is the output."""

    def make(output: str | Path = "unused", /, **changes: Any) -> DistillConfig:
        return DistillConfig.model_validate(distill_settings(*tiny, output, **changes))

    return make
