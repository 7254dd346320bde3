"""Fixtures that every test may use."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Left to itself, MKL chooses its kernels by processor and by where a matrix lies in memory, so that the same weights
# give other last bits when they were read from another file. Tests that compare bits ask for one choice on all of them.
os.environ.setdefault("MKL_CBWR", "AVX2")  # read when torch multiplies first, also in the processes that tests start

PROJECT = Path(__file__).resolve().parents[1]
_WITH_RAY = ("tests/ray_jobs/", "tests/flows/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Ray or Prefect comes first: it takes longest, and the other files fill what is left."""
    items.sort(key=lambda item: not item.nodeid.startswith(_WITH_RAY))  # stable


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What `make test` runs at the same time: files, but the tests of a folder that start Ray one after the other.

    They share a cluster, and in tests/flows a Prefect server, too.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((tests for tests in _WITH_RAY if nodeid.startswith(tests)), nodeid.partition("::")[0])

    return ByFile(config, log)


@pytest.fixture(scope="session")
def project() -> Path:
    """The project root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Photos, small real models and golden files that lie beside the checkout; they are not part of the project."""
    folder = PROJECT.parent / "shared"
    if not (folder / "faces").is_dir():
        pytest.skip("needs ../shared (photos, models and golden files beside the checkout)")
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], str]]:
    """An S3 server on this machine; each call makes an empty bucket and returns its URI.

    pyarrow and boto3 find it through the environment, and so do processes that a test starts.
    """
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for every request otherwise
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    numbers = itertools.count()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")

        def bucket() -> str:
            name = f"bucket-{next(numbers):03d}"
            boto3.client("s3").create_bucket(Bucket=name)
            return f"s3://{name}"

        yield bucket
    server.stop()
