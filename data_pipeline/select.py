"""From features to a selection: every rule over columns, in memory, without a picture or a network.

The order matters where one rule looks at the result of another: rules on one image come first, identity means are
built from what passed them, duplicates are looked for among what is left, and an identity is counted last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaface.perception.person_type import person_type
from data_pipeline.config import DataConfig
from data_pipeline.duplicates import exact_duplicates, near_duplicates_across, near_duplicates_inside
from data_pipeline.identities import (
    Centre,
    merged_into_larger,
    nearest_other,
    plain_centre,
    robust_centre,
)
from data_pipeline.plan import feature_key, part_name, sample_order
from data_pipeline.reasons import REASONS
from data_pipeline.rules import image_reasons
from data_pipeline.schema import IDENTITIES, SELECTION
from data_pipeline.storage import Storage

# What the rules look at, of FEATURES.
COLUMNS = [
    *(
        "image_id",
        "mask_id",
        "outcome",
        "width",
        "height",
        "phash",
        "n_faces",
        "det_score",
        "second_face",
        "face_pixels",
    ),
    *("yaw", "pitch", "roll", "sharpness", "gender", "age", "embedding_norm", "embedding", "n_parts"),
    *("clipped", "face_seen"),
]


@dataclass(frozen=True)
class Selection:
    images: pa.Table  # SELECTION
    identities: pa.Table  # IDENTITIES


def read_features(out: Storage, parts: int, analyse_hash: str, columns: Iterable[str]) -> pa.Table:
    """Some columns of all feature files.

    Raises:
        ValueError: a file that was made under another configuration.
    """
    tables = []
    for part in range(parts):
        try:
            table = out.read_table(part_name(part), columns=list(columns))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{out.locate(part_name(part))} cannot be read; delete it and run again: {error}"
            ) from error
        made_under = (table.schema.metadata or {}).get(b"analyse_hash", b"").decode()
        if made_under != analyse_hash:
            raise ValueError(f"{out.locate(part_name(part))} is of another configuration; delete it and run again")
        tables.append(table.replace_schema_metadata())
    return pa.concat_tables(tables)


def select(source: pa.Table, features: pa.Table, config: DataConfig, eval_means: np.ndarray) -> Selection:
    """Apply every rule.

    Args:
        source: N rows of SOURCE.
        features: rows of FEATURES (COLUMNS suffice), at least one for every row of `source`, in any order.
        config: the rules.
        eval_means: (E, D) float32, unit norm, identities that must not be in the data; E may be 0.
    """
    selector = _Selector(source, features, config, eval_means)
    del features  # the selector has its own copy of the embeddings
    return selector.run()


class _Selector:
    """The state that the rules share; rows are those of `source`."""

    def __init__(self, source: pa.Table, features: pa.Table, config: DataConfig, eval_means: np.ndarray):
        self.config = config
        self.eval_means = eval_means
        self.source = source
        order = _rows_of(source, features)
        self.features = features.drop_columns(["embedding"]).take(pa.array(order)).combine_chunks()
        self.reasons = {name: np.zeros(len(source), dtype=bool) for name in REASONS}
        self.copy_of = np.full(len(source), -1, dtype=np.int64)

        names = source["identity"].to_pylist()
        self.identities = sorted({name for name in names if name is not None})
        number = {name: index for index, name in enumerate(self.identities)}
        self.identity = np.array([number.get(name, -1) for name in names], dtype=np.int64)
        self.rows_of = _group(self.identity, len(self.identities))

        valid = features["embedding"].is_valid().to_numpy(zero_copy_only=False)
        self.has_face = valid[order]
        # The largest table by far: in 32 bits and in one copy besides that of `features`.
        self.embedding = _embeddings(features["embedding"], (np.cumsum(valid) - 1)[order[self.has_face]])  # (faces, D)
        self.face_row = np.full(len(source), -1, dtype=np.int64)  # row -> row of `embedding`
        self.face_row[self.has_face] = np.arange(int(self.has_face.sum()))

        score = _floats(self.features["det_score"])
        self.det_score = np.full(len(self.identities), np.nan)  # median of each identity's faces
        for group, rows in enumerate(self.rows_of):
            if self.has_face[rows].any():
                self.det_score[group] = np.median(score[rows][self.has_face[rows]])

        self.centres: dict[int, Centre] = {}
        self.similarity = np.full(len(source), np.nan, dtype=np.float32)
        self.nearest = np.full(len(source), -1, dtype=np.int64)
        self.nearest_similarity = np.full(len(source), np.nan, dtype=np.float32)

    def run(self) -> Selection:
        for reason, hit in image_reasons(self.features, self.config).items():
            self.reasons[reason] |= hit
        self._find_centres()
        self._find_nearest()
        self._reject_outliers()
        self._reject_leaks()
        self._reject_not_faces()
        self._reject_merged()
        # Once before, so that what is kept of a group of copies does not vanish with its small identity, and once after,
        # because identities may shrink.
        self._reject_small_identities()
        self._reject_duplicates()
        self._reject_small_identities()
        return Selection(self._selection_table(), self._identity_table())

    def _clean(self) -> np.ndarray:
        """(N,) bool, rows without a reason so far."""
        return ~np.logical_or.reduce(list(self.reasons.values()))

    def _find_centres(self) -> None:
        usable = self._clean()
        for identity, rows in enumerate(self.rows_of):
            rows = rows[self.has_face[rows]]
            if not len(rows):
                continue
            vectors = self.embedding[self.face_row[rows]]
            if self.config.identity_centre == "robust":
                centre = robust_centre(vectors, usable[rows])
            else:
                centre = plain_centre(vectors, usable[rows])
            self.centres[identity] = centre
            self.similarity[rows] = centre.similarity
        self.known = np.array(sorted(self.centres), dtype=np.int64)  # identities with a mean
        self.means = (
            np.stack([self.centres[identity].mean for identity in self.known])
            if len(self.known)
            else np.zeros((0, self.embedding.shape[1]), np.float32)
        )
        self.mean_row = np.full(len(self.identities), -1, dtype=np.int64)
        self.mean_row[self.known] = np.arange(len(self.known))

    def _find_nearest(self) -> None:
        rows = np.flatnonzero(self.has_face)
        own = np.append(self.mean_row, -1)[self.identity[rows]]  # unknown people, -1, find the -1 at the end
        nearest, cosine = nearest_other(self.embedding, own, self.means)
        self.nearest[rows] = np.where(nearest >= 0, self.known[nearest] if len(self.known) else -1, -1)
        self.nearest_similarity[rows] = cosine

    def _reject_outliers(self) -> None:
        if self.config.min_identity_similarity is not None:
            self.reasons["identity_outlier"] = self.similarity < np.float32(self.config.min_identity_similarity)

    def _reject_leaks(self) -> None:
        limit = self.config.eval_leak_similarity
        if limit is None or not len(self.eval_means) or not self.has_face.any():
            return
        leaking = (self.means @ self.eval_means.T >= limit).any(axis=1) if len(self.means) else np.zeros(0, bool)
        for identity in self.known[leaking]:
            self.reasons["eval_identity_leak"][self.rows_of[identity]] = True
        alone = (self.embedding @ self.eval_means.T >= limit).any(axis=1)
        self.reasons["eval_identity_leak"][np.flatnonzero(self.has_face)[alone]] = True

    def _reject_not_faces(self) -> None:
        limit = self.config.min_identity_det_score
        if limit is None:
            return
        for identity, rows in enumerate(self.rows_of):
            if self.det_score[identity] < np.float32(limit):
                self.reasons["identity_not_a_face"][rows] = True

    def _reject_merged(self) -> None:
        limit = self.config.merged_identity_similarity
        if limit is None or not len(self.known):
            return
        clean = self._clean()
        sizes = np.array([clean[self.rows_of[identity]].sum() for identity in self.known])
        # An identity with nobody left cannot swallow another, nor need it be merged.
        alive = np.flatnonzero(sizes > 0)
        into = merged_into_larger(self.means[alive], sizes[alive], limit)
        for identity in self.known[alive[into >= 0]]:
            self.reasons["identity_merged"][self.rows_of[identity]] = True

    def _reject_duplicates(self) -> None:
        config = self.config
        if config.drop_exact_duplicates:
            # The same photo with another mask is the same photo.
            self._mark_copies("duplicate_exact", exact_duplicates(self.source["image_id"].to_pylist(), self._clean()))
        quality = _floats(self.features["width"]) * _floats(self.features["height"])
        if config.near_duplicate_bits is not None:
            hashes = self.features["phash"].fill_null(0).to_numpy(zero_copy_only=False)
            clean, copy_of = self._clean(), np.full(len(self.source), -1, dtype=np.int64)
            for rows in self.rows_of:
                rows = rows[clean[rows]]
                inside = near_duplicates_inside(hashes[rows], quality[rows], config.near_duplicate_bits)
                copy_of[rows] = np.where(inside >= 0, rows[inside], -1)
            self._mark_copies("duplicate_near", copy_of)
        if config.near_duplicate_similarity is not None:
            rows = np.flatnonzero(self._clean() & self._may_be_elsewhere(config.near_duplicate_similarity))
            across = near_duplicates_across(
                self.embedding[self.face_row[rows]],
                self.identity[rows],
                quality[rows],
                config.near_duplicate_similarity,
            )
            copy_of = np.full(len(self.source), -1, dtype=np.int64)
            copy_of[rows] = np.where(across >= 0, rows[across], -1) if len(rows) else across
            self._mark_copies("duplicate_near", copy_of)

    def _may_be_elsewhere(self, similarity: float) -> np.ndarray:
        """(N,) bool, rows that could have a copy under another name.

        If b lies at least `own` from its mean m and a is a copy of b, the angle between a and m is at most the sum of
        the two angles; an image below that cosine to every other mean has no copy. It spares most of the N squared
        comparisons.
        """
        own = self.config.min_identity_similarity
        if own is None or (self.identity[self.has_face] < 0).any():
            return self.has_face.copy()
        widest = np.arccos(np.clip(own, -1, 1)) + np.arccos(np.clip(similarity, -1, 1))
        return self.has_face & (self.nearest_similarity >= np.cos(min(widest, np.pi)) - 1e-5)

    def _mark_copies(self, reason: str, copy_of: np.ndarray) -> None:
        found = copy_of >= 0
        self.reasons[reason] |= found
        self.copy_of = np.where(found & (self.copy_of < 0), copy_of, self.copy_of)
        # What an earlier rule kept may be a copy itself: point to the picture that is left.
        kept = np.where(self.copy_of >= 0, self.copy_of[self.copy_of], -1)
        self.copy_of = np.where(kept >= 0, kept, self.copy_of)

    def _reject_small_identities(self) -> None:
        if self.config.min_identity_images is None:
            return
        clean = self._clean()
        for rows in self.rows_of:
            left = rows[clean[rows]]
            if len(left) < self.config.min_identity_images:
                self.reasons["identity_too_small"][left] = True

    def _selection_table(self) -> pa.Table:
        accepted = self._clean()
        image_ids, mask_ids = self.source["image_id"].to_pylist(), self.source["mask_id"].to_pylist()
        paths = self.source["path"].to_pylist()
        order = sorted(
            (int(row) for row in np.flatnonzero(accepted)),
            key=lambda row: (sample_order(self.config.seed, image_ids[row]), mask_ids[row] or "", row),
        )
        keys: list[str | None] = [None] * len(self.source)
        shards: list[int | None] = [None] * len(self.source)
        seen: dict[str, int] = {}
        n_shards = -(-len(order) // self.config.shard_size)
        for position, row in enumerate(order):
            key = image_ids[row][:20]
            seen[key] = seen.get(key, -1) + 1
            keys[row] = key if not seen[key] else f"{key}-{seen[key]}"
            # Even shards, whose sizes differ by one at most: ranks that read different shards stay in step.
            shards[row] = position * n_shards // len(order)
        names = list(self.reasons)
        table = np.stack([self.reasons[name] for name in names])
        return pa.table(
            {
                "image_id": image_ids,
                "mask_id": mask_ids,
                "source": self.source["source"],
                "path": paths,
                "identity": self.source["identity"],
                "accepted": accepted,
                "reasons": [[names[i] for i in np.flatnonzero(table[:, row])] for row in range(len(paths))],
                "identity_similarity": _nullable(self.similarity),
                "nearest_identity": [self.identities[i] if i >= 0 else None for i in self.nearest],
                "nearest_similarity": _nullable(self.nearest_similarity),
                "duplicate_of": [paths[i] if i >= 0 else None for i in self.copy_of],
                "key": keys,
                "shard": shards,
            },
            schema=SELECTION,
        )

    def _identity_table(self) -> pa.Table:
        accepted = self._clean()
        gender, age = _floats(self.features["gender"]), _floats(self.features["age"])
        nearest, cosine = nearest_other(self.means, np.arange(len(self.means)), self.means)
        rows_out = []
        for identity, rows in enumerate(self.rows_of):
            taken = rows[accepted[rows]]
            voters = taken if len(taken) else rows
            word, sex, years = person_type(gender[voters], age[voters])
            mean = int(self.mean_row[identity])
            other = int(nearest[mean]) if mean >= 0 else -1
            rows_out.append(
                {
                    "identity": self.identities[identity],
                    "source": self.identities[identity].split("/", 1)[0],
                    "images": len(rows),
                    "faces": int(self.has_face[rows].sum()),
                    "accepted": len(taken),
                    "person_type": word,
                    "gender": sex,
                    "age": years,
                    "det_score": None if np.isnan(self.det_score[identity]) else float(self.det_score[identity]),
                    "consistency": float(self.similarity[taken].mean()) if len(taken) else None,
                    "nearest_identity": self.identities[self.known[other]] if other >= 0 else None,
                    "nearest_similarity": float(cosine[mean]) if other >= 0 else None,
                    "mean_embedding": self.centres[identity].mean.tolist() if mean >= 0 else None,
                }
            )
        return pa.Table.from_pylist(rows_out, schema=IDENTITIES)


def _rows_of(source: pa.Table, features: pa.Table) -> np.ndarray:
    """For every row of `source` its row of `features`; the same one where the same bytes were found twice."""
    keys = map(feature_key, features["image_id"].to_pylist(), features["mask_id"].to_pylist())
    row_of = {key: row for row, key in enumerate(keys)}
    wanted = map(feature_key, source["image_id"].to_pylist(), source["mask_id"].to_pylist())
    return np.array([row_of[key] for key in wanted], dtype=np.int64)


def _group(codes: np.ndarray, groups: int) -> list[np.ndarray]:
    """Rows of each code 0..groups-1."""
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(groups + 1))
    return [order[bounds[group] : bounds[group + 1]] for group in range(groups)]


def _embeddings(column: pa.ChunkedArray, wanted: np.ndarray) -> np.ndarray:
    """Rows of a list column, chunk by chunk, as (wanted, D) float32.

    Args:
        wanted: (wanted,) int, which of the non-null rows.
    """
    by_row = np.argsort(wanted, kind="stable")
    in_order = wanted[by_row]
    rows = np.zeros((0, 1), np.float32)
    begin = 0
    for chunk in column.chunks:
        faces = len(chunk) - chunk.null_count
        if not faces:
            continue
        vectors = chunk.flatten().to_numpy(zero_copy_only=False).reshape(faces, -1)
        if not rows.size:
            rows = np.empty((len(wanted), vectors.shape[1]), np.float32)
        first, last = np.searchsorted(in_order, (begin, begin + faces))
        rows[by_row[first:last]] = vectors[in_order[first:last] - begin]
        begin += faces
    return rows


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float32(), from_pandas=True)
