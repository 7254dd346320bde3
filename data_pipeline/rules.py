"""Rules on one image: thresholds over columns of the feature table, no picture and no network needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from data_pipeline.config import DataConfig

# A column as floats, null as NaN. Comparisons with NaN are False, so a rule never fires on what was not measured.
Column = Callable[[str], np.ndarray]


def image_reasons(features: pa.Table, config: DataConfig) -> dict[str, np.ndarray]:
    """Reasons that an image carries by itself.

    Args:
        features: rows of FEATURES (metric columns suffice), N of them.

    Returns:
        reason -> (N,) bool, for every rule that is on, in the order of `reasons.REASONS`.
    """

    def column(name: str) -> np.ndarray:
        return features[name].to_numpy(zero_copy_only=False).astype(np.float64)

    outcome = np.asarray(features["outcome"].to_pylist(), dtype=object)
    n_faces = column("n_faces")
    hits = {"decode_error": outcome == "decode_error"}
    if config.min_side is not None:
        hits["too_small"] = np.minimum(column("width"), column("height")) < config.min_side
    hits["no_face"] = n_faces == 0
    # Metrics are stored as float32; so must the limits be, or 0.6 in the table would lie above 0.6 here.
    if config.max_second_face is not None:
        hits["multi_face"] = column("second_face") >= np.float32(config.max_second_face)
    for reason, metric, limit in (
        ("low_det_score", "det_score", config.min_det_score),
        ("low_embedding_norm", "embedding_norm", config.min_embedding_norm),
        ("small_face", "face_pixels", config.min_face),
    ):
        if limit is not None:
            hits[reason] = column(metric) < np.float32(limit)
    turned = [
        np.abs(column(metric)) > np.float32(limit)
        for metric, limit in (("yaw", config.max_yaw), ("pitch", config.max_pitch), ("roll", config.max_roll))
        if limit is not None
    ]
    if turned:
        hits["extreme_pose"] = np.logical_or.reduce(turned)
    if config.min_sharpness is not None:
        hits["blurry"] = column("sharpness") < np.float32(config.min_sharpness)
    if config.max_clipped is not None:
        hits["bad_exposure"] = column("clipped") > np.float32(config.max_clipped)
    if config.min_face_seen is not None:
        hits["occluded"] = column("face_seen") < np.float32(config.min_face_seen)
    if config.min_parts is not None:
        hits["too_few_parts"] = column("n_parts") < config.min_parts
    if config.max_parts is not None:
        hits["too_many_parts"] = column("n_parts") > config.max_parts
    return hits
