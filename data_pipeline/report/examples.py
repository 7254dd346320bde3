"""Which images the report shows for each reason, what it says about them, and which picture stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from data_pipeline.report.quantities import IDENTITY_QUANTITIES, excess, rules_of
from data_pipeline.report.tables import Tables
from data_pipeline.report.thumbnails import MONTAGE_SIDE, SIDE, Thumbnail, View, thumbnail

EXAMPLES = 12
MONTAGE = 48

# What has to be seen to judge a reason; a face unless it says otherwise.
VIEWS: dict[str, View] = {
    "too_small": "image",
    "no_face": "image",
    "multi_face": "image",
    "low_det_score": "image",
    "small_face": "image",
    "too_few_parts": "parts",
    "too_many_parts": "parts",
}
# Beside the example: the picture that was kept, the identity the folder is about, or the larger identity it belongs to.
REFERENCES = {
    "duplicate_near": "kept",
    "identity_outlier": "own identity",
    "identity_merged": "larger identity",
}


@dataclass(frozen=True)
class Example:
    """One picture with its caption."""

    name: str
    path: str
    measured: str
    picture: Thumbnail
    reference: Thumbnail | None = None
    remark: str = ""
    also: tuple[str, ...] = ()  # its other reasons


def pick(
    rows: np.ndarray, alone: np.ndarray, rank: np.ndarray, severity: np.ndarray | None, limit: int = EXAMPLES
) -> np.ndarray:
    """Choose the examples of a reason.

    Images with no other reason come first. Among equals the choice is spread evenly from the borderline to the worst where
    the reason has a measure, and in the order of the image hash (which is to say: at random, the same every time) where not.

    Args:
        rows: (M,) images that carry the reason.
        alone: (N,) bool, images with exactly one reason.
        rank: (N,) place of the image's hash; equal bytes have equal ranks and are shown once.
        severity: (N,) how far past the threshold, or None.
        limit: most examples.

    Returns:
        (<= limit,) rows.
    """
    # The same bytes may be rejected at one path for more reasons than at another: keep the path with the fewest.
    rows = rows[np.lexsort((rows, ~alone[rows]))]
    rows = rows[np.unique(rank[rows], return_index=True)[1]]
    chosen: list[int] = []
    for group in (rows[alone[rows]], rows[~alone[rows]]):
        room = limit - len(chosen)
        if severity is not None:
            group = group[np.lexsort((rank[group], severity[group]))]
        if severity is not None and len(group) > room:
            group = (
                group[np.unique(np.linspace(0, len(group) - 1, room).round().astype(np.int64))] if room else group[:0]
            )
        chosen.extend(group[:room].tolist())
    rows = np.array(chosen, np.int64)
    return rows if severity is None else rows[np.lexsort((rank[rows], severity[rows]))]


def examples_of(tables: Tables, reason: str) -> list[Example]:
    """Up to 12 examples of a reason, in a fixed order."""
    settings = tables.config["data"]
    rules = rules_of(reason, settings)
    severity = None
    if rules:
        past = [excess(tables.values[quantity.column], rule, threshold) for quantity, rule, threshold in rules]
        severity = np.nan_to_num(np.fmax.reduce(past), nan=np.inf)
    rows = pick(np.flatnonzero(tables.has(reason)), tables.alone(), tables.rank, severity).tolist()
    references = {row: _reference(tables, reason, row) for row in rows} if reason in REFERENCES else {}
    shown = [*rows, *(row for row in references.values() if row is not None)]
    columns = ["bbox", "crop"]
    if VIEWS.get(reason) == "parts":
        columns.append("parts")
    if reason == "duplicate_near":
        columns += ["phash", "embedding"]
    features = tables.read_features(shown, columns)
    pictures = _pictures(tables, shown, features, VIEWS.get(reason, "face"), SIDE)
    examples = []
    for row in rows:
        other = references.get(row)
        examples.append(
            Example(
                name=short_name(tables.text("path", row) or ""),
                path=tables.text("path", row) or "",
                measured=_measured(
                    tables, reason, row, features.get(row), None if other is None else features.get(other)
                ),
                picture=pictures[row],
                reference=None if other is None else pictures[other],
                remark=_remark(tables, reason, row, other),
                also=tables.reasons_of(row, other_than=reason),
            )
        )
    return examples


def accepted_faces(tables: Tables, limit: int = MONTAGE) -> list[Example]:
    """A sample of what is in the dataset: the accepted images whose hashes come first, with mask and class map."""
    rows = np.flatnonzero(tables.accepted)
    rows = rows[np.argsort(tables.rank[rows], kind="stable")][:limit].tolist()
    features = tables.read_features(rows, ["crop", "mask", "parts"])
    pictures = _pictures(tables, rows, features, "sample", MONTAGE_SIDE)
    return [
        Example(
            name=short_name(tables.text("path", row) or ""),
            path=tables.text("path", row) or "",
            measured="",
            picture=pictures[row],
        )
        for row in rows
    ]


def decode_errors(tables: Tables, limit: int = EXAMPLES) -> list[tuple[str, str, str]]:
    """(short name, path, what went wrong) of files that could not be read."""
    rows = pick(np.flatnonzero(tables.has("decode_error")), tables.alone(), tables.rank, None, limit).tolist()
    features = tables.read_features(rows, ["error"])
    found = []
    for row in rows:
        path = tables.text("path", row) or ""
        error = tables.text("error", row) or features.get(row, {}).get("error") or "unknown error"
        found.append((short_name(path), path, error[:300]))
    return found


def short_name(path: str) -> str:
    """Folder and file name."""
    return "/".join(path.rsplit("/", 2)[-2:])


def _pictures(
    tables: Tables, rows: Sequence[int], features: dict[int, dict[str, Any]], view: View, side: int
) -> dict[int, Thumbnail]:
    settings = tables.config["data"]

    def make(row: int) -> Thumbnail:
        return thumbnail(
            tables.text("path", row) or "",
            tables.text("image_id", row) or "",
            features.get(row),
            view,
            max_pixels=settings["max_pixels"],
            max_bytes=settings["max_bytes"],
            side=side,
        )

    distinct = sorted(set(rows))
    # Reading from an object store is mostly waiting. Few threads, because each may hold a large decoded image.
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(distinct, pool.map(make, distinct), strict=True))


def _reference(tables: Tables, reason: str, row: int) -> int | None:
    """The row to show beside an example; None where there is none."""
    if reason == "duplicate_near":
        kept = tables.text("duplicate_of", row)
        place = pc.index(tables.source.column("path"), kept).as_py() if kept is not None else -1
        return place if place >= 0 else None
    identity = (
        tables.text("identity", row) if reason == "identity_outlier" else _of_identity(tables, row, "nearest_identity")
    )
    if identity is None:
        return None
    members = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(tables.source.column("identity"), identity), False)))
    members = members[members != row]
    # The most typical picture, one that is in the dataset if there is any.
    members = members[tables.accepted[members]] if tables.accepted[members].any() else members
    similarity = np.nan_to_num(tables.values["identity_similarity"][members], nan=-2.0)
    return int(members[np.lexsort((tables.rank[members], -similarity))][0]) if len(members) else None


def _measured(
    tables: Tables, reason: str, row: int, features: dict[str, Any] | None, kept: dict[str, Any] | None
) -> str:
    """What was found on the image that the reason is about."""
    rules = [
        (quantity, rule, limit, tables.values[quantity.column][row])
        for quantity, rule, limit in rules_of(reason, tables.config["data"])
    ]
    if rules:
        failed = [
            quantity.caption(float(value), limit)
            for quantity, rule, limit, value in rules
            if excess(value, rule, limit) > 0
        ]
        # A value on the threshold itself: there is one rule, so it is the one.
        return ", ".join(failed) or rules[0][0].caption(float(rules[0][3]), rules[0][2])
    if reason == "duplicate_near" and features and kept:
        return _distance(features, kept)
    if reason == "identity_too_small":
        return _left(tables, row)
    for quantity, _, limit in rules_of(reason, tables.config["data"], IDENTITY_QUANTITIES):
        value = _of_identity(tables, row, quantity.column)
        if value is not None:
            return quantity.caption(value, limit)
    return ""


def _remark(tables: Tables, reason: str, row: int, other: int | None) -> str:
    """Which file stands beside the example, or was kept in its place."""
    kept = tables.text("duplicate_of", row) if reason == "duplicate_exact" else None
    path = kept if kept is not None else tables.text("path", other) if other is not None else None
    return "" if path is None else f"{'kept' if kept is not None else REFERENCES[reason]}: {short_name(path)}"


def _distance(one: dict[str, Any], other: dict[str, Any]) -> str:
    parts = []
    if one.get("phash") is not None and other.get("phash") is not None:
        bits = ((one["phash"] ^ other["phash"]) & 0xFFFF_FFFF_FFFF_FFFF).bit_count()
        parts.append(f"{bits} bit{'' if bits == 1 else 's'} apart")
    if one.get("embedding") and other.get("embedding"):
        parts.append(
            f"cosine {float(np.dot(one['embedding'], other['embedding'])):.3f}".replace("-", "\N{MINUS SIGN}")
        )
    return ", ".join(parts)


def _left(tables: Tables, row: int) -> str:
    """Images of the identity that no rule on single images rejects."""
    identity = tables.text("identity", row)
    if identity is None:
        return ""
    members = np.asarray(pc.fill_null(pc.equal(tables.source.column("identity"), identity), False))
    left = int((members & (tables.accepted | (tables.has("identity_too_small") & tables.alone()))).sum())
    return f"{left} of {int(members.sum())} images left"


def _of_identity(tables: Tables, row: int, column: str) -> Any:
    """A cell of the row's identity."""
    place = pc.index(tables.identities.column("identity"), tables.text("identity", row)).as_py()
    return tables.identities.column(column)[place].as_py() if place >= 0 else None
