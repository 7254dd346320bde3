"""A real Ray cluster and a real Prefect server with a worker, each started once and ended by its process group."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class RayCluster:
    """A cluster of one machine that asks for a token."""

    address: str  # of the dashboard
    token_file: Path


@dataclass(frozen=True)
class PrefectServer:
    """A server, and the environment in which `prefect` commands speak to it."""

    url: str
    environment: dict[str, str]

    def command(self, *words: str, cwd: Path, timeout: float = 120) -> str:
        """Output of a `prefect` command; fails the test when the command fails."""
        done = subprocess.run(
            [str(BIN / "prefect"), *words],
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"prefect {' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout


def free_ports(count: int) -> list[int]:
    """Ports above Ray's worker ports (10002 to 19999) that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def without_orchestration(environment: dict[str, str]) -> dict[str, str]:
    """No setting of the person who runs the tests reaches the servers of the tests."""
    return {name: value for name, value in environment.items() if not name.startswith(("RAY_", "PREFECT_"))}


@contextmanager
def process(
    command: list[str], environment: dict[str, str], log: Path, cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own; the whole group is gone afterwards."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield started
    finally:
        started.terminate()  # it takes its own children down
        with suppress(subprocess.TimeoutExpired):
            started.wait(timeout=5)
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def wait_until(
    condition: Callable[[], bool], seconds: float, what: str, log: Path, alive: subprocess.Popen[bytes] | None = None
) -> None:
    """Return when `condition` holds; fail with the end of `log` when it takes too long or the process has died."""
    deadline = time.monotonic() + seconds
    while not condition():
        dead = alive is not None and alive.poll() is not None
        if dead or time.monotonic() > deadline:
            pytest.fail(
                f"{what} {'died' if dead else f'did not come within {seconds:.0f} s'}:\n{log.read_text()[-3000:]}"
            )
        time.sleep(0.2)


def answers(url: str, token: str | None = None) -> bool:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def ray_token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The token of `ray_cluster`."""
    file = tmp_path_factory.mktemp("ray") / "token"
    file.write_text(secrets.token_hex(16))
    return file


@pytest.fixture(scope="session")
def ray_cluster(ray_token_file: Path) -> Iterator[RayCluster]:
    """`ray start --head` with token authentication, for the Jobs API."""
    folder = Path(
        tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    )  # short: Ray puts sockets there, whose paths are limited
    token = ray_token_file.read_text()
    gcs, dashboard, agent, client = free_ports(4)
    environment = without_orchestration(dict(os.environ)) | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(ray_token_file),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        *(str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--num-cpus=2", "--object-store-memory=100000000", f"--temp-dir={folder}"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--port={gcs}", f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"),
    ]
    address = f"http://127.0.0.1:{dashboard}"
    log = folder / "ray-start.log"
    try:
        with process(command, environment, log, cwd=folder) as head:
            wait_until(lambda: answers(f"{address}/api/jobs/", token), 90, "the Ray cluster", log, head)
            yield RayCluster(address, ray_token_file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def prefect_server(
    tmp_path_factory: pytest.TempPathFactory, project: Path, ray_token_file: Path
) -> Iterator[PrefectServer]:
    """`prefect server start`, the work pool of prefect.yaml with one process worker, and all deployments.

    The worker has the token of `ray_cluster`, should a test use that.
    """
    folder = tmp_path_factory.mktemp("prefect")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    environment = without_orchestration(dict(os.environ)) | {
        "RAY_AUTH_TOKEN_PATH": str(ray_token_file),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "COLUMNS": "250",
    }
    server = PrefectServer(url, environment)
    serve = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    log = folder / "server.log"
    with process(serve, environment, log, cwd=folder) as running:
        wait_until(lambda: answers(f"{url}/health"), 120, "the Prefect server", log, running)
        server.command("work-pool", "create", "adaface", "--type", "process", cwd=project)
        server.command("--no-prompt", "deploy", "--all", cwd=project)
        # The worker stands elsewhere: what it runs must come from the deployment, not from its own folder.
        work = [str(BIN / "prefect"), "worker", "start", "--pool", "adaface"]
        with process(work, environment, folder / "worker.log", cwd=folder):
            yield server
