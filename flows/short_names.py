"""A Prefect plugin: `prefect deployment run build-dataset` means `build-dataset/build-dataset`.

Prefect names a deployment FLOW/DEPLOYMENT. Here a deployment is called like its flow, so the name without a slash says it
all. Prefect has no setting for that, so its client is taught the short form. Prefect loads this module through the entry
point `prefect.plugins` in pyproject.toml, where `[tool.prefect.plugins]` switches plugins on for commands that run in the
project root. The long form works everywhere, with or without this.
"""

from __future__ import annotations

import functools
from typing import Any

from prefect.plugins import HookContext, register_hook

_MARK = "_takes_short_names"


def full_name(name: str) -> str:
    """`NAME/NAME` for a name without a slash."""
    return name if not isinstance(name, str) or "/" in name else f"{name}/{name}"


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Called by Prefect when it is imported. Whatever is wrong, the long form must go on working."""
    logger = ctx.logger_factory("adaface.short_names")
    try:
        # A private module: it may be gone in another version of Prefect (pyproject.toml pins one).
        from prefect.client.orchestration._deployments.client import DeploymentAsyncClient

        original = DeploymentAsyncClient.read_deployment_by_name
    except (ImportError, AttributeError) as error:
        logger.warning(
            "prefect %s keeps its deployment client elsewhere (%s): write deployments as FLOW/DEPLOYMENT, "
            "for example build-dataset/build-dataset",
            ctx.prefect_version,
            error,
        )
        return
    if getattr(original, _MARK, False):
        return

    @functools.wraps(original)
    async def read_deployment_by_name(self: DeploymentAsyncClient, name: str, *rest: Any, **named: Any) -> Any:
        return await original(self, full_name(name), *rest, **named)

    setattr(read_deployment_by_name, _MARK, True)
    DeploymentAsyncClient.read_deployment_by_name = read_deployment_by_name  # type: ignore[method-assign]
