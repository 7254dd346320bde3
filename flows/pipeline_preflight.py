"""What a pipeline's rounds and evaluation lack on this machine, before its first step."""

from __future__ import annotations

from adaface.evaluation.preflight import model_problems as evaluation_problems
from flows.pipeline_steps import evaluation_config, round_config, rounds_to_train
from ray_jobs.config import DatasetConfig
from ray_jobs.config_file import ConfigError
from ray_jobs.distill_preflight import init_problems, model_problems, plan_problems, tracker_problems


def refuse_what_is_missing(config: DatasetConfig) -> None:
    """For a pipeline of `load_pipeline` whose jobs run on this machine.

    Raises ConfigError with all problems of rounds that are not done, and of the evaluation.
    """
    if problems := problems_here(config):
        raise ConfigError(problems)


def problems_here(config: DatasetConfig) -> list[str]:
    """One sentence each. What a step before has yet to make, datasets, encoders, subjects, is not looked for."""
    section = config.pipeline
    assert section is not None
    found: dict[str, None] = {}  # in order, each once: rounds share most of their settings
    to_train = rounds_to_train(config)
    for each, before in section.starts():
        if each.name not in to_train:
            continue
        run = round_config(section, each, each.name, config.data.output, None)
        said = [*model_problems(run), *plan_problems(run), *tracker_problems(run)]
        if before is None:
            said += init_problems(run)
        found |= dict.fromkeys(f"{section.distill.config}: {problem}" for problem in said)
    evaluation = evaluation_config(section, [])
    found |= dict.fromkeys(f"{section.evaluate.config}: {problem}" for problem in evaluation_problems(evaluation))
    return list(found)
