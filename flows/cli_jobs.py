"""Commands that run jobs: on this machine, or on a Ray cluster."""

from __future__ import annotations

import argparse

from flows.cli_data import configured

# Each command imports what it needs when it runs: `adaface --help` must not take the seconds that torch and Ray take.


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add them to the command line; `common` are the options that every command has."""
    job = argparse.ArgumentParser(add_help=False, parents=[common, configured()])
    job.add_argument("--config", metavar="FILE", required=True, help="configuration; configs/ has templates")

    joining = argparse.ArgumentParser(add_help=False, parents=[job])
    joining.add_argument("--address", help="a running Ray cluster; without it, or RAY_ADDRESS, a local Ray is started")
    commands.add_parser("build-dataset", parents=[joining], help="photos -> dataset folder").set_defaults(
        run=build_dataset
    )
    training = commands.add_parser("distill", parents=[joining], help="dataset -> encoder, by a stage of training")
    training.add_argument("--stage", type=int, choices=(1, 2), help="instead of the configuration's `stage`")
    training.set_defaults(run=distill)
    commands.add_parser(
        "cache-latents", parents=[joining], help="keep what the VAE makes of a dataset, for `distill`'s `data.latents`"
    ).set_defaults(run=cache_latents)
    commands.add_parser("evaluate", parents=[joining], help="people and methods -> scores and a report").set_defaults(
        run=evaluate
    )

    chain = commands.add_parser(
        "pipeline", parents=[job], help="photos -> dataset -> encoder -> evaluation; what is done already is skipped"
    )
    chain.add_argument(
        "--address", help="dashboard of a Ray cluster to send the jobs to, e.g. http://head:8265; default: RAY_ADDRESS"
    )
    chain.set_defaults(run=pipeline)


def build_dataset(arguments: argparse.Namespace) -> int:
    from ray_jobs.config import DatasetConfig
    from ray_jobs.config_file import load

    config = load(DatasetConfig, arguments.config, arguments.overrides)  # before the imports that take seconds
    from ray_jobs.build_dataset import run
    from ray_jobs.job_main import as_job_process

    as_job_process()
    dataset = run(config, address=arguments.address)
    for reason, images in sorted(dataset["reasons"].items(), key=lambda item: -item[1]):
        print(f"{images:>8,}  {reason}")
    return 0


def distill(arguments: argparse.Namespace) -> int:
    from ray_jobs.config_file import load
    from ray_jobs.distill import run
    from ray_jobs.distill_config import DistillConfig
    from ray_jobs.job_main import as_job_process

    stage = [f"stage={arguments.stage}"] if arguments.stage else []
    config = load(DistillConfig, arguments.config, [*arguments.overrides, *stage])
    as_job_process()
    print(run(config, address=arguments.address)["encoder"])
    return 0


def cache_latents(arguments: argparse.Namespace) -> int:
    from ray_jobs.config_file import load
    from ray_jobs.distill_config import DistillConfig

    config = load(DistillConfig, arguments.config, arguments.overrides)
    from ray_jobs.cache_latents import run
    from ray_jobs.job_main import as_job_process

    as_job_process()
    print(f"{config.data.latents}: {run(config, address=arguments.address)} samples encoded")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    from ray_jobs.config_file import load
    from ray_jobs.evaluate import run
    from ray_jobs.evaluate_config import EvaluateConfig
    from ray_jobs.job_main import as_job_process

    config = load(EvaluateConfig, arguments.config, arguments.overrides)
    as_job_process()
    run(config, address=arguments.address)
    return 0


def pipeline(arguments: argparse.Namespace) -> int:
    from flows.pipeline_local import run_pipeline
    from flows.pipeline_steps import load_pipeline
    from ray_jobs.job_main import as_job_process

    config = load_pipeline(arguments.config, arguments.overrides)
    as_job_process()
    results = run_pipeline(config, arguments.address)
    print()
    for step in results:
        print(f"{step.name:<16} {'skipped' if step.done else 'done':<8} {step.output}")
    print(f"\nthe report: {results[-1].output}/report/index.html")
    return 0
