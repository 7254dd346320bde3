"""An output that would be lost with a submitted job's working directory is refused."""

from __future__ import annotations

import os

from data_pipeline.storage import is_uri
from ray_jobs.runtime import joins_cluster


def refuse_lost_output(key: str, output: str, address: str | None) -> None:
    """In a submitted job the working directory is a temporary copy that is deleted with the job, output and all.

    Args:
        key: of the configuration that names the output.

    Raises ValueError for a relative path in such a job.
    """
    if is_uri(output) or os.path.isabs(os.path.expanduser(output)):
        return
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") and joins_cluster(address):
        raise ValueError(
            f"{key} is {output}, relative to a submitted job's temporary folder, where it would be lost; "
            "give an absolute path on shared storage, or a URI"
        )
