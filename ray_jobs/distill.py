"""A stage of training on Ray Train. `python -m ray_jobs.distill --config FILE --stage 1|2`.

A run is a folder, OUTPUT/NAME. Started again under its name it goes on from its last checkpoint, on the same samples and
the same random numbers; a worker that dies is replaced and does the same.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from adaface.encoder.files import CONFIG, WEIGHTS
from data_pipeline.lock import output_lock
from data_pipeline.storage import Storage
from data_pipeline.stream import TrainingStream
from ray_jobs.config_file import config_hash
from ray_jobs.distill_config import DistillConfig, with_absolute_paths
from ray_jobs.distill_preflight import problems_of
from ray_jobs.job_main import job_parser, run_job_main
from ray_jobs.kept_encoder import keep_encoder
from ray_jobs.lost_output import refuse_lost_output
from ray_jobs.progress import Progress
from ray_jobs.runtime import joins_cluster, ray_session
from ray_jobs.same_run import LASTING_FAILURE, begin
from ray_jobs.whole_checkpoints import mend_list

log = logging.getLogger(__name__)

RESULT = "run.json"  # written when a run is done
ENCODER = "encoder"  # the finished encoder, in the folder of the run


def run(config: DistillConfig, *, address: str | None = None) -> dict[str, Any]:
    """Train, or go on.

    Args:
        config: local paths are taken relative to the working directory.
        address: of a Ray cluster; None: the cluster this process was submitted to, or a local Ray.

    Returns:
        {"encoder": path or URI, "steps", "loss", "config_hash"}.

    Raises:
        ValueError: bad input, all problems at once, before a network is loaded; somebody else trains this run; what would
            go wrong again however often it is tried, as a bad sample or losses that are no numbers any more.
    """
    refuse_lost_output("output", config.output, address)
    if problems := problems_of(config):
        raise ValueError("\n".join(problems))
    config = with_absolute_paths(config)
    out = Storage(config.folder)
    with output_lock(out):
        return _run(config, out, address)


def _run(config: DistillConfig, out: Storage, address: str | None) -> dict[str, Any]:
    identity = config_hash(config)
    if out.exists(RESULT):
        done: dict[str, Any] = out.read_json(RESULT)
        if done["config_hash"] != identity:
            raise ValueError(
                f"{out.uri} is a finished run of another configuration; give this one another name (name: ...)"
            )
        if has_encoder(out):
            log.info("%s is done: %s", out.uri, done["encoder"])
            return done
        log.warning("%s was done, but its encoder is gone: it goes on from its last checkpoint", out.uri)
        out.delete(RESULT)
    begin(out, config)
    mend_list(out)
    if out.exists(LASTING_FAILURE):  # of a start before this one: perhaps its cause is gone
        out.delete(LASTING_FAILURE)
    # Reads every shard that is new once, here and not in each worker, and says what is wrong with samples, shares and
    # latents before networks are loaded.
    TrainingStream(config.data, seed=config.run_config.seed)
    try:
        with ray_session(address, dashboard=True):
            _look_for_room(config, joins_cluster(address))
            result = _fit(config)
        if out.exists(LASTING_FAILURE):  # with which workers return
            raise RuntimeError("the workers gave up")
    except BaseException as error:
        lasting = out.read_json(LASTING_FAILURE)["error"] if out.exists(LASTING_FAILURE) else None
        Progress(out).fail(lasting or str(error) or type(error).__name__)
        if lasting is not None:
            raise ValueError(lasting) from error
        raise
    metrics = {"steps": result.metrics["step"], "loss": result.metrics["loss"]}
    with result.checkpoint.as_directory() as folder:
        keep_encoder(Path(folder) / ENCODER, out, ENCODER)
    done = {"encoder": out.locate(ENCODER), "config_hash": identity, "stage": config.stage, **metrics}
    out.write_json(RESULT, done)
    log.info("done after %s steps: %s", f"{metrics['steps']:,}", done["encoder"])
    return done


def _look_for_room(config: DistillConfig, on_cluster: bool) -> None:
    """ValueError where a Ray of this machine alone cannot hold the workers: Ray Train would wait for more without end.

    A cluster may grow, so that there it is only said.
    """
    import ray

    machines = config.machines
    least = machines.workers if isinstance(machines.workers, int) else machines.workers[0]
    wanted = {"CPU": least * machines.cpus_per_worker, "GPU": float(least if machines.gpu else 0)}
    there = ray.cluster_resources()
    short = [
        f"{amount:g} {name} where Ray has {there.get(name, 0):g}"
        for name, amount in wanted.items()
        if amount > there.get(name, 0)
    ]
    if not short:
        return
    said = f"machines (workers: {least:,}) asks for {' and '.join(short)}"
    if not on_cluster:
        raise ValueError(f"{said}; ask for fewer workers, fewer machines.cpus_per_worker, or machines.gpu: false")
    log.warning("%s: the job waits until the cluster has grown", said)


def has_encoder(out: Storage) -> bool:
    """Whether the folder of a run has a finished encoder."""
    return all(out.exists(f"{ENCODER}/{name}") for name in (CONFIG, WEIGHTS))


def _fit(config: DistillConfig) -> Any:
    import pyarrow.fs
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from ray_jobs.distill_worker import train

    machines = config.machines
    place = Storage(config.output)
    filesystem, folder = place.filesystem()
    trainer = TorchTrainer(
        train,
        train_loop_config={"config": config.model_dump(mode="json")},
        torch_config=TorchConfig(backend="nccl" if machines.gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=machines.workers,  # type: ignore[arg-type]  # (least, most) is elastic
            use_gpu=machines.gpu,
            resources_per_worker={"CPU": machines.cpus_per_worker, **({"GPU": 1} if machines.gpu else {})},
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # mypy sees the class that this one replaces
            name=config.name,
            storage_path=folder,
            storage_filesystem=filesystem if not isinstance(filesystem, pyarrow.fs.LocalFileSystem) else None,
            failure_config=FailureConfig(max_failures=machines.retries),
            checkpoint_config=CheckpointConfig(num_to_keep=config.log.keep),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    return trainer.fit()


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 2 bad configuration or input."""
    parser = job_parser("ray_jobs.distill", str(__doc__), DistillConfig)
    parser.add_argument("--stage", type=int, choices=(1, 2), help="instead of the configuration's `stage`")
    options = parser.parse_args(arguments)
    stage = [f"stage={options.stage}"] if options.stage else []
    return run_job_main(options, DistillConfig, run, kept="checkpoints are", overrides=stage)


if __name__ == "__main__":
    sys.exit(main())
