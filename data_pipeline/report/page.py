"""The page: what is on it, in which order; `template.html.j2` says how it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaface.html_page.render import render_page
from adaface.perception.classes import CLASS_NAMES
from data_pipeline.reasons import REASONS
from data_pipeline.report.examples import EXAMPLES, REFERENCES, accepted_faces, decode_errors, examples_of
from data_pipeline.report.histograms import Threshold, histogram_svg
from data_pipeline.report.quantities import DEGREE, IDENTITY_QUANTITIES, QUANTITIES, Quantity, is_off, write_rule
from data_pipeline.report.tables import Tables, load
from data_pipeline.report.thumbnails import class_colour
from data_pipeline.report.wording import with_code, without_credentials, write_bytes, write_count, write_percent
from data_pipeline.storage import Storage

FOLDER = Path(__file__).parent
IDENTITY_ROWS = 500
RUNS = 20
PHASES = (("scan", "scanned"), ("analyse", "analysed"), ("select", "selected"), ("shard", "sharded"), ("report", None))


def write_report(out: str) -> str:
    """Write `report/index.html` of a dataset folder; returns its full path or URI. Raises as `build_report`."""
    storage = Storage(out)
    storage.write_bytes("report/index.html", build_report(out))
    return storage.locate("report/index.html")


def build_report(out: str) -> bytes:
    """The report of a finished dataset folder (local path or URI) as one HTML page in UTF-8.

    The page needs no other file and loads nothing; its size is bounded whatever the number of images. Equal folders and
    source images give equal bytes. Source images that can no longer be read are shown as such.

    Raises:
        FileNotFoundError: the folder lacks one of its tables.
        ValueError: its tables do not belong together.
    """
    filters = {
        "count": write_count,
        "bytes": write_bytes,
        "percent": write_percent,
        "plain": without_credentials,
        "code": with_code,
    }
    return render_page(FOLDER, filters, _content(out, load(out))).encode("utf-8")


def _content(out: str, tables: Tables) -> dict[str, Any]:
    counts = tables.summary["counts"]
    return {
        "name": without_credentials(out.split("?")[0].rstrip("/")).rsplit("/", 1)[-1] or "dataset",
        "summary": tables.summary,
        "found": len(tables),
        "accepted": int(tables.accepted.sum()),
        "counts": counts,
        "warnings": _warnings(tables),
        "parser": (tables.config.get("perception") or {}).get("parser"),
        "profile": tables.config["data"].get("profile"),
        "reasons": _reasons(tables),
        "unused": _unused(tables),
        "examples": EXAMPLES,
        "sources": tables.summary["sources"],
        "licences": sorted(tables.summary.get("licences", {}).items(), key=lambda item: (-item[1], item[0])),
        "histograms": _histograms(tables),
        "classes": _classes(tables),
        "parsed": int((tables.parts_seen >= 0).sum()),
        "montage": accepted_faces(tables),
        "identities": _identities(tables),
        "identity_count": len(tables.identities),
        "duplicates": _duplicates(tables),
        "runs": _runs(tables),
        "phases": [phase for phase, _ in PHASES],
        "more_runs": max(0, len(tables.runs) - RUNS),
        "config_text": tables.config_text,
        "models": sorted(tables.summary.get("models", {}).items()),
        "hashes": sorted(tables.summary.get("hashes", {}).items()),
        "ignored": sorted(tables.summary.get("ignored", {}).items(), key=lambda item: (-item[1], item[0]))[:40],
    }


def _warnings(tables: Tables) -> list[str]:
    """What a reader should know before trusting the rest of the page."""
    warnings = []
    counts = tables.summary["counts"]
    found, accepted = len(tables), int(tables.accepted.sum())
    if (counts["found"], counts["accepted"]) != (found, accepted):
        warnings.append(
            f"dataset.json counts {counts['found']:,} found and {counts['accepted']:,} accepted, the tables {found:,} and "
            f"{accepted:,}: the last build did not finish. Run it again."
        )
    if not found:
        warnings.append("The sources hold no images. Check their paths and layouts in the configuration.")
    elif not accepted:
        warnings.append("No image was accepted, so there are no shards. The reasons below show which rule to relax.")
    if found and not (tables.config.get("perception") or {}).get("parser"):
        warnings.append(
            "No face parser is configured: samples carry no masks of its making and the rules on classes had nothing to judge."
        )
    for reason in tables.reason_names:
        hit = int(tables.has(reason).sum())
        if found >= 20 and hit > 0.5 * found:
            warnings.append(
                f"{reason} hits {write_percent(hit / found)} of all images. Is its threshold right for these photos?"
            )
    return warnings


def _reasons(tables: Tables) -> list[dict[str, Any]]:
    """Every reason that occurs, with its examples."""
    found, alone, settings = len(tables), tables.alone(), tables.config["data"]
    present = [(reason, tables.has(reason)) for reason in tables.reason_names]
    present = [(reason, hit) for reason, hit in present if hit.any()]
    most = max((int(hit.sum()) for _, hit in present), default=1)
    return [
        {
            "name": reason,
            "meaning": REASONS.get(reason, "unknown to this version"),
            "images": int(hit.sum()),
            "share": float(hit.sum() / found),
            "only": int((hit & alone).sum()),
            "bar": 100 * float(hit.sum() / most),
            "bar_only": 100 * float((hit & alone).sum() / most),
            "rules": _no_face_rule(tables) if reason == "no_face" else write_rule(reason, settings),
            "paired": reason in REFERENCES,
            "examples": [] if reason == "decode_error" else examples_of(tables, reason),
            "errors": decode_errors(tables) if reason == "decode_error" else [],
        }
        for reason, hit in present
    ]


def _no_face_rule(tables: Tables) -> list[str]:
    perception = tables.config.get("perception") or {}
    keys = ("detection_threshold", "detector_sizes", "border")
    return [
        f"{key} = {', '.join(map(str, value)) if isinstance(value := perception[key], list) else value}"
        for key in keys
        if key in perception
    ]


def _unused(tables: Tables) -> dict[str, list[str]]:
    absent = [reason for reason in tables.reason_names if not tables.has(reason).any()]
    off = [reason for reason in absent if is_off(reason, tables.config["data"])]
    return {"off": off, "clean": [reason for reason in absent if reason not in off]}


def _histograms(tables: Tables) -> list[dict[str, Any]]:
    settings = tables.config["data"]
    found = []
    for quantity in QUANTITIES:
        values = tables.values[quantity.column]
        found.append(_histogram(quantity, values[tables.accepted], values[~tables.accepted], settings, "images"))
    used = tables.identities.column("accepted").to_numpy() > 0
    for quantity in IDENTITY_QUANTITIES:
        values = np.asarray(tables.identities.column(quantity.column).to_numpy(), np.float32)
        found.append(_histogram(quantity, values[used], values[~used], settings, "identities"))
    return [one for one in found if one["svg"]]


def _histogram(
    quantity: Quantity, accepted: np.ndarray, rejected: np.ndarray, settings: dict[str, Any], counted: str
) -> dict[str, Any]:
    thresholds = []
    for rule in quantity.rules:
        value = settings.get(rule.key)
        if value is not None:
            sign = "\N{PLUS-MINUS SIGN}" if rule.side == "beyond" else ""
            thresholds.append(
                Threshold(
                    float(value), f"{rule.key} {sign}{value:g}{DEGREE if quantity.unit == DEGREE else ''}", rule.side
                )
            )
    unit = "degrees" if quantity.unit == DEGREE else quantity.unit
    name = "" if unit in ("classes", "cosine") else quantity.title.lower()
    axis = ", ".join(part for part in (name, unit, "log scale" * (quantity.scale == "log")) if part)
    both = np.concatenate([accepted, rejected])
    known = both[np.isfinite(both)]
    return {
        "title": quantity.title,
        "note": quantity.note,
        "svg": histogram_svg(
            accepted,
            rejected,
            title=quantity.title,
            axis=axis,
            thresholds=thresholds,
            scale=quantity.scale,
            counted=counted,
        ),
        "median": quantity.write(float(np.median(known))) if len(known) else "",
        "missing": len(both) - len(known),
    }


def _classes(tables: Tables) -> list[dict[str, Any]]:
    parsed = tables.parts_seen >= 0
    sides = {"accepted": parsed & tables.accepted, "rejected": parsed & ~tables.accepted}
    rows = []
    for class_id, name in enumerate(CLASS_NAMES):
        seen = (tables.parts_seen >> class_id) & 1 == 1
        share = {side: float(seen[rows_].mean()) if rows_.any() else None for side, rows_ in sides.items()}
        rows.append(
            {"name": name, "colour": class_colour(class_id), "pixels": float(tables.class_share[1, class_id]), **share}
        )
    return rows if parsed.any() else []


def _identities(tables: Tables) -> list[dict[str, Any]]:
    """The largest identities, and the columns of the table."""
    columns = [
        "identity",
        "source",
        "person_type",
        "images",
        "faces",
        "accepted",
        "det_score",
        "consistency",
        "nearest_identity",
        "nearest_similarity",
    ]
    table = tables.identities.select(columns)
    order = pc.sort_indices(table, [("accepted", "descending"), ("images", "descending"), ("identity", "ascending")])
    return table.take(order.slice(0, IDENTITY_ROWS)).to_pylist()


def _duplicates(tables: Tables) -> dict[str, Any]:
    """Images removed as duplicates and the images kept for them."""
    kinds = []
    for reason in ("duplicate_exact", "duplicate_near"):
        hit = tables.has(reason)
        kept = tables.selection.column("duplicate_of").filter(pa.array(hit)).drop_null()
        kinds.append({"reason": reason, "removed": int(hit.sum()), "kept": len(pc.unique(kept)) if hit.any() else 0})
    return {
        "kinds": kinds,
        "removed": int((tables.has("duplicate_exact") | tables.has("duplicate_near")).sum()),
        "same_bytes": len(tables) - (int(tables.rank.max()) + 1 if len(tables) else 0),
        "exact_rule": bool(tables.config["data"].get("drop_exact_duplicates")),
    }


def _runs(tables: Tables) -> list[dict[str, Any]]:
    """The last runs, newest first, with images per second where a phase worked on images."""
    rows = []
    for name, run in tables.runs[: -RUNS - 1 : -1]:
        seconds, work = run.get("seconds") or {}, run.get("work") or {}
        cells = {}
        for phase, key in PHASES:
            took, images = seconds.get(phase), work.get(key) if key else None
            rate = images / took if took and images else None
            cells[phase] = {"seconds": took, "images": images, "rate": rate}
        rows.append(
            {
                "started": run.get("started") or name,
                "workers": run.get("workers"),
                "total": sum(value for value in seconds.values() if value),
                "cells": cells,
                "versions": sorted((run.get("versions") or {}).items()),
            }
        )
    return rows
