"""A finished dataset as Prefect shows it: counts, why images were rejected, and where the report is."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from data_pipeline.storage import Storage

BAR = 30  # characters of a full bar


def publish(dataset: dict[str, Any], output: Storage) -> None:
    """Make the three artifacts from the content of dataset.json; equal keys make them a history in Prefect."""
    create_markdown_artifact(
        counts_markdown(dataset, output.uri), key="build-dataset-counts", description=f"Counts of {output.uri}"
    )
    create_table_artifact(
        reject_rows(dataset),
        key="build-dataset-rejects",
        description="Images by reject reason. An image can have several reasons; shares are of the images found.",
    )
    create_link_artifact(
        report_link(output),
        link_text="Report",
        key="build-dataset-report",
        description=output.locate("report/index.html"),
    )


def counts_markdown(dataset: dict[str, Any], uri: str) -> str:
    """The counts as Markdown. Lines are not indented, or Markdown would show them as code."""
    counts = dataset["counts"]
    kept = f"{counts['accepted'] / counts['found']:.1%}" if counts["found"] else "none"
    rows = [
        ("images found", f"{counts['found']:,}"),
        ("accepted", f"{counts['accepted']:,} ({kept})"),
        ("rejected", f"{counts['rejected']:,}"),
        ("identities", f"{counts['identities']:,}, {counts['identities_accepted']:,} with accepted images"),
        ("shards", f"{counts['shards']:,}, {counts['shard_bytes'] / 1e6:,.1f} MB"),
        ("files that are no photos", f"{counts['ignored_files']:,}"),
    ]
    lines = [f"# {uri}", "", "| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)]
    lines += ["", "| source | layout | licence | images | accepted |", "|---|---|---|---:|---:|"]
    lines += [
        f"| {_cell(source['name'])} | {source['layout']} | {_cell(source['licence'])} "
        f"| {source['images']:,} | {source['accepted']:,} |"
        for source in dataset["sources"]
    ]
    return "\n".join([*lines, "", f"Configuration `{dataset['config_hash']}`"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def reject_rows(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """The reject histogram, most frequent first; bars are relative to the longest."""
    found = max(dataset["counts"]["found"], 1)
    reasons = sorted(dataset["reasons"].items(), key=lambda item: (-item[1], item[0]))
    longest = max(dataset["reasons"].values(), default=1)
    return [
        {
            "reason": reason,
            "images": images,
            "share": f"{images / found:.1%}",
            "histogram": "█" * round(BAR * images / longest),
        }
        for reason, images in reasons
    ]


def report_link(output: Storage) -> str:
    """A URL that a browser on the machine with the files opens; in an object store the URI of the page."""
    name = "report/index.html"
    return output.local_path(name).as_uri() if output.is_local else output.locate(name)
