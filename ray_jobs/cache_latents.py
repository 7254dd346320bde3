"""What the VAE makes of every sample, kept beside the shards. `python -m ray_jobs.cache_latents --config FILE`

FILE is a configuration of `distill` that names them: `data.latents`. A training with that name reads them instead of
encoding each picture again; `data.images: false` spares it the pictures, too. What is there already stays, so the same
command goes on where it was stopped.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from data_pipeline.latents import write_latents
from ray_jobs.distill_config import DistillConfig, with_absolute_paths
from ray_jobs.distill_preflight import problems_of_data
from ray_jobs.job_main import job_parser, run_job_main
from ray_jobs.runtime import ray_session

log = logging.getLogger(__name__)

_PICTURES = 16  # at a time, mirror images included


def run(config: DistillConfig, *, address: str | None = None) -> int:
    """Encode what is missing, on one of the cluster's GPUs where the configuration has them. Returns the number of samples.

    Raises:
        ValueError: bad input, all problems at once, before a network is loaded.
    """
    if problems := problems_of(config):
        raise ValueError("\n".join(problems))
    import ray

    with ray_session(address):
        task = ray.remote(_encode).options(
            num_cpus=config.machines.cpus_per_worker, num_gpus=int(config.machines.gpu), max_retries=0
        )
        encoded: int = ray.get(task.remote(with_absolute_paths(config).model_dump(mode="json")))
    log.info("%s: %d samples encoded", config.data.latents, encoded)
    return encoded


def problems_of(config: DistillConfig) -> list[str]:
    """One sentence each; empty when encoding can begin."""
    problems = list(problems_of_data(config))
    if config.data.latents is None:
        problems.append("data.latents is missing: give the latents a name, and set data.augment.scale to null")
    return problems


def encode(config: DistillConfig, device: str) -> int:
    """As `run`, in this process."""
    from adaface.distill.latent_encoder import LatentEncoder

    data = config.data
    assert data.latents is not None
    encoder = LatentEncoder(config.models.base, device=device, precision=config.models.precision)
    return write_latents(
        data.datasets, data.latents, encoder, size=data.augment.size, batch_size=_PICTURES, cache=data.cache
    )


def _encode(settings: dict[str, Any]) -> int:
    import torch

    config = DistillConfig.model_validate(settings)
    torch.set_num_threads(config.machines.threads)
    return encode(config, "cuda" if config.machines.gpu else "cpu")


def main(arguments: list[str] | None = None) -> int:
    """Exit status: see `run_job_main`."""
    parser = job_parser("ray_jobs.cache_latents", __doc__, DistillConfig)
    return run_job_main(parser.parse_args(arguments), DistillConfig, run, kept="the latents of finished shards are")


if __name__ == "__main__":
    sys.exit(main())
