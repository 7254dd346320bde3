"""How flow runs are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prefect.runtime import flow_run as this_run

from ray_jobs.config import JobConfig
from ray_jobs.config_file import ConfigError, load

Config = TypeVar("Config", bound=JobConfig)


def named_after(model: type[Config], output: Callable[[Config], str]) -> Callable[[], str]:
    """Names a flow run after the last part of what it makes and the start of its id, for example `faces-0194a2c7`."""

    def run_name() -> str:
        given = this_run.parameters
        try:
            place = output(load(model, given["config"], given["overrides"]))
        except ConfigError:  # the flow itself says what is wrong
            place = str(given["config"]).removesuffix(".yaml")
        return f"{place.rstrip('/').rsplit('/', 1)[-1]}-{this_run.id[:8]}"

    return run_name
