"""How a job gets its Ray: a local one of its own, or the cluster that it was sent to."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from ray_jobs.config import ClusterConfig

if TYPE_CHECKING:
    import ray.data

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_TOO_SLOW = "timed out during startup"  # in what Ray says then


def log_to_stdout(level: int = logging.INFO) -> None:
    """Plain lines on standard output, where `ray job logs` and flows look for them."""
    logging.basicConfig(
        level=level, stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )


def quiet_model_loading(*libraries: str) -> None:
    """No progress bars and hints of these model libraries in a worker, where they would be lines of a log.

    Args:
        libraries: "transformers", "diffusers"; only what the worker loads in any case, as importing them takes seconds.
    """
    for library in libraries:
        logs = importlib.import_module(library).utils.logging
        logs.disable_progress_bar()
        logs.set_verbosity_error()


def joins_cluster(address: str | None) -> bool:
    """Whether a job runs on an existing cluster rather than on a Ray of its own."""
    return bool(address or os.environ.get("RAY_ADDRESS"))


@contextlib.contextmanager
def ray_session(address: str | None, *, dashboard: bool = False) -> Iterator[None]:
    """Connect to `address`, to the cluster this process was submitted to (RAY_ADDRESS), or start a local Ray, whose
    ports Ray guards by a token.

    Args:
        dashboard: of a local Ray; Ray Train asks it whether its controller is alive.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": True}
    if joins_cluster(address):
        ray.init(address=address or "auto", **quiet)
    else:
        # Nobody reads the metrics of a Ray without a dashboard, and collecting them takes CPU time from the workers.
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
        # Parts and shards travel as numbers, so the object store stays nearly empty; Ray would reserve 30% of the
        # memory.
        _start(include_dashboard=dashboard, object_store_memory=200 * 2**20, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _start(**options: Any) -> None:
    """A local Ray. It gives its own processes 30 s to come up, whatever one asks for, and on a machine that is at work on
    other things they may need longer: then a second time."""
    import ray

    try:
        ray.init(**options)
    except Exception as error:  # Ray raises nothing more particular
        if _TOO_SLOW not in str(error):
            raise
        log.warning("Ray did not start within its 30 s, the machine is busy; once more")
        ray.init(**options)


def workers(cluster: ClusterConfig, tasks: int) -> int:
    """Actors to start: as configured, or as many as the cluster's CPUs and GPUs hold, and never more than tasks."""
    import ray

    wanted = cluster.workers
    if wanted is None:
        resources = ray.cluster_resources()
        wanted = int(resources.get("CPU", 1) // cluster.cpus_per_worker)
        if cluster.gpus_per_worker:
            wanted = min(wanted, int(resources.get("GPU", 0) / cluster.gpus_per_worker + 1e-6))
            if not wanted:
                raise ValueError(
                    f"cluster.gpus_per_worker is {cluster.gpus_per_worker}, but Ray sees "
                    f"{resources.get('GPU', 0):g} GPUs; set it to 0, or start Ray where a GPU is"
                )
    return max(1, min(wanted, tasks))


def in_worker(function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    """Call a function in a worker, so that the memory it takes is not the driver's.

    Raises:
        what the function raised.
    """
    import ray

    try:
        return ray.get(ray.remote(function).options(num_cpus=1).remote(*arguments, **named))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise


def run_actors(
    actor: type,
    tasks: Iterable[dict[str, Any]],
    cluster: ClusterConfig,
    on_result: Callable[[dict[str, Any]], None],
    **constructor: Any,
) -> int:
    """Stream task rows through a pool of `actor` objects by Ray Data; one row is one task.

    Args:
        actor: class whose objects map one row (dict) to a result row (dict of numbers and strings).
        on_result: called in the driver for every result, as they come.
        constructor: arguments of every actor.

    Returns:
        number of actors.
    """
    import ray.data

    rows = list(tasks)
    _quiet_data_context(cluster)
    size = workers(cluster, len(rows))
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        actor,
        fn_constructor_kwargs=constructor,
        # By default Ray Data queues a second task at a busy actor, which at the end waits there while others are idle.
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
        num_cpus=cluster.cpus_per_worker,
        num_gpus=cluster.gpus_per_worker or None,
    )
    _consume(dataset, on_result)
    return size


def run_stages(
    stages: Sequence[tuple[type, dict[str, Any], ClusterConfig]],
    tasks: Iterable[dict[str, Any]],
    on_result: Callable[[dict[str, Any]], None],
) -> None:
    """As `run_actors` with a row of pools: while one works on a task, the one before it works on the next.

    Args:
        stages: (class, arguments of its constructor, machines) in the order a row goes through; the errors of the
            first one's machines hold for all.
    """
    import ray
    import ray.data

    rows = list(tasks)
    _quiet_data_context(stages[0][2])
    # A machine with fewer CPUs than pools: each gets a part of one, or none would ever start.
    share = min(1.0, ray.cluster_resources().get("CPU", 1) / sum(cluster.cpus_per_worker for *_, cluster in stages))
    dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    left = max(1.0, ray.cluster_resources().get("CPU", 1))
    later = [sum((c.workers or 1) * c.cpus_per_worker for *_, c in stages[i + 1 :]) for i in range(len(stages))]
    for (actor, constructor, cluster), after in zip(stages, later, strict=True):
        size = workers(cluster, len(rows))
        if cluster.workers is None:  # the pools behind need room, too
            size = max(1, min(size, int((left - after) // cluster.cpus_per_worker)))
        dataset = dataset.map(
            actor,
            fn_constructor_kwargs=constructor,
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=cluster.cpus_per_worker * share,
            num_gpus=cluster.gpus_per_worker or None,
        )
        left -= size * cluster.cpus_per_worker
    _consume(dataset, on_result)


def run_tasks(
    function: Callable[[dict[str, Any]], dict[str, Any]],
    tasks: Iterable[dict[str, Any]],
    cluster: ClusterConfig,
    on_result: Callable[[dict[str, Any]], None],
) -> None:
    """As `run_actors`, for work that keeps no state between rows: one CPU a task."""
    import ray.data

    rows = list(tasks)
    _quiet_data_context(cluster)
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(function, num_cpus=1)
    _consume(dataset, on_result)


def _consume(dataset: ray.data.Dataset, on_result: Callable[[dict[str, Any]], None]) -> None:
    """Run the dataset and hand over its rows as they come, in no particular order."""
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        assert isinstance(batch, pa.Table)
        for result in batch.to_pylist():
            on_result(result)


def _quiet_data_context(cluster: ClusterConfig) -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = cluster.max_failed_parts
    context.execution_options.verbose_progress = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
