"""A run of training goes on with the configuration that it was begun with, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError

from data_pipeline.storage import Storage
from ray_jobs.config_file import resolved_yaml
from ray_jobs.distill_config import DistillConfig

CONFIG = "config.yaml"
LASTING_FAILURE = "failure.json"  # what a worker died of where another try would end like it
LOG = "log"  # has files from the first checkpoint on


def begin(out: Storage, config: DistillConfig) -> None:
    """Write the configuration of a run that begins or goes on.

    Raises:
        ValueError: the folder has checkpoints of another configuration; names what differs.
    """
    if out.exists(CONFIG) and out.list(LOG) and (differ := _differences(out, config)):
        raise ValueError(
            f"{out.uri} is a run of another configuration; different are {', '.join(differ)}. Give this one another name "
            "(name: ...), go on with the configuration that it was begun with, or remove that folder"
        )
    out.write_bytes(CONFIG, resolved_yaml(config).encode())


def _differences(out: Storage, config: DistillConfig) -> list[str]:
    try:
        there = DistillConfig.model_validate(yaml.safe_load(out.read_bytes(CONFIG)))
    except (yaml.YAMLError, ValidationError):
        return ["keys that this version does not know"]
    before, now = (dict(_leaves(each.what_it_makes(), "")) for each in (there, config))
    # `run` is what a configuration calls stage1 or stage2
    return [
        name.replace("run.", f"stage{config.stage}.", 1) if name.startswith("run.") else name
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _leaves(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
