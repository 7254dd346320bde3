"""What a job that has succeeded must have left."""

from __future__ import annotations

from typing import Any

from data_pipeline.storage import Storage


def read_result(output: Storage, name: str, key: str) -> dict[str, Any]:
    """The JSON file that a job writes last.

    Args:
        key: of the configuration, which names the output.

    Raises FileNotFoundError where it is not to be seen.
    """
    if not output.exists(name):
        raise FileNotFoundError(
            f"the job is done, but {output.locate(name)} cannot be seen from here: with a cluster of other machines "
            f"`{key}` must be on storage that all share, or a URI such as s3://bucket/name"
        )
    result: dict[str, Any] = output.read_json(name)
    return result
