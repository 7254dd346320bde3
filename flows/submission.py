"""Run a job module and follow it to its end: on a cluster through Ray's Jobs API, or as a child process of this one.

On a cluster a job is known by its submission id. Following is separate from running: who follows may die, and whoever
asks for the same id later attaches to the job that is there instead of starting a second one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from flows.child_process import arguments, run_child
from flows.job_logs import JobLog, last_lines
from flows.outcome import JobFailed

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

PROJECT = Path(__file__).resolve().parents[1]
# What a job imports. Only these are sent, so that neither data, tests nor a virtual environment travels with a job.
SENT = ("adaface", "data_pipeline", "ray_jobs")
CONFIG_NAME = "job.yaml"  # the configuration beside the code in the job's working directory
PATIENCE = 120.0  # seconds without an answer of the cluster before a follower gives up


def run_job(
    module: str,
    config_file: str | Path,
    overrides: Sequence[str] = (),
    *,
    address: str | None = None,
    submission_id: str,
    on_log: Callable[[str], None],
    on_poll: Callable[[], None] = lambda: None,
    poll_seconds: float = 2.0,
    root: Path = PROJECT,
) -> None:
    """Run `python -m MODULE --config CONFIG_FILE [--set ...]` and return when it has succeeded.

    Args:
        module: for example "ray_jobs.build_dataset".
        config_file: sent along with the code; paths inside it must be valid on the machines of the cluster.
        overrides: "section.key=value", each one becomes a `--set`.
        address: of a running cluster: its dashboard ("http://host:8265") or "auto". None: $RAY_API_SERVER_ADDRESS or
            $RAY_ADDRESS; without these a child process, which starts a Ray of its own.
        submission_id: names the job on the cluster. If it is there already, it is followed, not started.
        on_log: called with each line that the job prints, once, without its line end.
        on_poll: called every `poll_seconds`.
        root: folder of the packages that the job needs. A child process runs in the working directory of this one,
            a job on a cluster in a temporary folder with a copy of the packages.

    Raises:
        JobFailed: the job failed or was stopped, now or before this call.
        ConnectionError: the cluster cannot be reached. The job may be running: ask again with the same id.
    """
    if address or cluster_in_environment():
        client = connect(address)
        job = find(client, submission_id)
        if job is None:
            submit(client, module, Path(config_file), overrides, submission_id, root)
        else:
            on_log(f"job {submission_id} is on the cluster already: {job.status}")
        try:
            _follow(client, submission_id, job is not None, on_log, on_poll, poll_seconds)
        except KeyboardInterrupt:
            stop(client, submission_id)
            raise
    else:
        run_child(module, Path(config_file).resolve(), overrides, on_log, on_poll, poll_seconds, root)


def cluster_in_environment() -> bool:
    """Whether the environment names a cluster, where Ray's own commands look for it too."""
    return bool(os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS"))


# On a cluster


def connect(address: str | None) -> JobSubmissionClient:
    """A client of the cluster at `address`.

    Ray lets $RAY_ADDRESS win over the argument; here the argument wins, because it is what the flow run shows. Ray
    sends a token only under RAY_AUTH_MODE=token; here a cluster that asks for one gets the token that Ray itself would
    find ($RAY_AUTH_TOKEN, $RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token), unless RAY_AUTH_MODE says otherwise.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    with _address_not_from_environment() if address else nullcontext():
        try:
            return JobSubmissionClient(address)
        except AuthenticationError as error:
            token = _token() if "RAY_AUTH_MODE" not in os.environ else None
            if token is None:
                raise ConnectionError(
                    f"the Ray cluster at {address or 'RAY_ADDRESS'} wants a token: set RAY_AUTH_MODE=token, and "
                    f"RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token ({error})"
                ) from error
            return JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"})


def find(client: JobSubmissionClient, submission_id: str) -> JobDetails | None:
    """The job of this id, or None where the cluster knows none."""
    try:
        return client.get_job_info(submission_id)
    except RuntimeError as error:
        if "status code 404" in str(error):
            return None
        raise


def attempt_id(client: JobSubmissionClient, name: str, *, again: bool = False) -> str:
    """`NAME-1`, or `NAME-2` when NAME-1 has failed or was stopped, and so on: the job to start or to follow now.

    The attempts are counted on the cluster, so a follower that comes back after a crash, in another process or on
    another machine, gets the id of the job that its predecessor started.

    Args:
        again: one that has succeeded is not followed to its end either, but started again.
    """
    ended = ("FAILED", "STOPPED", "SUCCEEDED") if again else ("FAILED", "STOPPED")
    attempt = 1
    while (job := find(client, f"{name}-{attempt}")) is not None and job.status in ended:
        attempt += 1
    return f"{name}-{attempt}"


def submit(
    client: JobSubmissionClient,
    module: str,
    config_file: Path,
    overrides: Sequence[str],
    submission_id: str,
    root: Path = PROJECT,
) -> None:
    """Send code and configuration and start the job, unless somebody else starts this id at the same moment."""
    with tempfile.TemporaryDirectory(prefix="adaface-job-") as folder:
        staged = Path(folder)
        for package in SENT:
            if (root / package).is_dir():
                shutil.copytree(root / package, staged / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(config_file, staged / CONFIG_NAME)
        entrypoint = shlex.join(["python", *arguments(module, CONFIG_NAME, overrides)])
        try:
            client.submit_job(entrypoint=entrypoint, submission_id=submission_id, runtime_env={"working_dir": folder})
        except RuntimeError:
            if find(client, submission_id) is None:
                raise


def stop(client: JobSubmissionClient, submission_id: str) -> bool:
    """Ask the cluster to end a job; False when there was nothing to end."""
    job = find(client, submission_id)
    return job is not None and not job.status.is_terminal() and client.stop_job(submission_id)


def stop_attempts(address: str | None, name: str) -> list[str]:
    """End every attempt that is running of the jobs whose names are `name` or end in `-NAME`; the ids of those ended."""
    client = connect(address)
    ours = re.compile(rf"(.*-)?{re.escape(name)}-\d+")
    ids = [job.submission_id for job in client.list_jobs() if job.submission_id and ours.fullmatch(job.submission_id)]
    return [submission_id for submission_id in sorted(ids) if stop(client, submission_id)]


def _follow(
    client: JobSubmissionClient,
    submission_id: str,
    attached: bool,
    on_log: Callable[[str], None],
    on_poll: Callable[[], None],
    poll_seconds: float,
) -> None:
    log = JobLog(client, submission_id, from_now=attached)
    heard = time.monotonic()
    with log:
        while True:
            log.deliver(on_log, seconds=poll_seconds)
            on_poll()
            try:
                job = client.get_job_info(submission_id)
                heard = time.monotonic()
            except OSError as error:  # requests' errors are OSErrors
                if time.monotonic() - heard > PATIENCE:
                    raise ConnectionError(f"the cluster has not answered for {PATIENCE:.0f} s: {error}") from error
                continue
            if job.status.is_terminal():
                break
    text = log.text()
    log.deliver_rest(text, on_log)
    if job.status != "SUCCEEDED":
        lines = last_lines(text) or (job.message or "it printed nothing")
        ended = "was stopped" if job.status == "STOPPED" else "failed"
        code = f" with exit code {job.driver_exit_code}" if job.driver_exit_code is not None else ""
        raise JobFailed(
            f"job {submission_id} {ended}{code}; its last lines:\n{lines}",
            exit_code=job.driver_exit_code,
            stopped=job.status == "STOPPED",
        )


@contextmanager
def _address_not_from_environment() -> Iterator[None]:
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    saved = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def _token() -> str | None:
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return file.read_text().strip() if file.is_file() else None
