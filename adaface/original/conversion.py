"""An original checkpoint (.pt) becomes an encoder folder."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from adaface.encoder.files import Stored, load_teacher, weight_problems
from adaface.encoder.model import AdaFaceEncoder
from adaface.original.checkpoints import OriginalEncoder, read_original

# Arc2Face's text encoder, whose states the original's encoders were trained on
TEACHER, TEACHER_SUBFOLDER = "FoivosPar/Arc2Face", "encoder"


def convert(
    path: str | Path,
    out: str | Path,
    *,
    subject: str | None = None,
    background: bool = True,
    teacher: str | None = None,
    teacher_subfolder: str = "",
    face_pack: str = "",
    copy_teacher: bool = True,
) -> OriginalEncoder:
    """Write one of the original's checkpoints as an encoder folder that `AdaFaceEncoder.from_pretrained` reads.

    Args:
        path: the .pt file; nothing in it runs.
        out: folder to make.
        subject, background: as in `read_original`.
        teacher: the teacher's text encoder, which is not in the file: a folder, `package://PACKAGE/PATH` or a model of
            the hub; Arc2Face's by default.
        face_pack: the insightface pack to name in the folder; the original used antelopev2.
        copy_teacher: put the teacher into the folder, too; otherwise only its place is written down.

    Returns:
        what was read.

    Raises:
        ValueError: for a file that is not one of the original's checkpoints, or a teacher that does not fit.
        FileNotFoundError: when the file or the teacher is not there.
        FileExistsError: when `out` holds something other than an encoder.
    """
    original = read_original(path, subject=subject, background=background)
    if teacher is None:
        teacher, teacher_subfolder = TEACHER, TEACHER_SUBFOLDER
    config = replace(original.config, teacher=teacher, teacher_subfolder=teacher_subfolder, face_pack=face_pack)
    weights = {f"inverse.{name}": tensor for name, tensor in original.inverse.items()}
    weights["layer_weights"] = original.layer_weights
    if original.pad_table is not None:
        weights["pad_table"] = original.pad_table
    weights |= {f"background.{name}": tensor for name, tensor in original.background.items()}
    if problems := weight_problems(weights, config):
        raise ValueError(f"{path}: its tensors do not make an encoder: " + "; ".join(problems[:20]))
    text, beside = load_teacher(config, Path.cwd())
    encoder = Stored(config, weights, text, beside).build(AdaFaceEncoder)
    encoder.save_pretrained(out, teacher="copy" if copy_teacher else "reference")
    return original


def report(original: OriginalEncoder) -> list[str]:
    """Lines for a person: what was taken from the file, and everything that was not, with its shape."""
    config = original.config
    pads = "none (computed from the weights)" if original.pad_table is None else "as cached in the file"
    kept = sum(tensor.numel() for tensor in (*original.inverse.values(), *original.background.values()))
    lost = [math.prod(shape) for shape in original.dropped.values()]
    lines = [
        f"subject {original.subject!r}: {config.text['num_hidden_layers']} layers of width {config.width}, keys per token "
        f"{list(config.multipliers)}, {kept:,} weights kept",
        f"layer weights: {_numbers(original.layer_weights)}",
        f"pad table: {pads}",
        f"background: {original.background_word!r}" if original.background_word else "background: none",
        f"never used by the original, dropped: {len(lost)} tensors, {sum(lost):,} values",
        *(f"    {name}  {' x '.join(map(str, shape))}" for name, shape in original.dropped.items()),
    ]
    if original.left_out:
        lines.append(f"not part of the encoder, left out: {', '.join(map(_plain, original.left_out))}")
    return lines


def _numbers(weights: Tensor) -> str:
    means = ", ".join(f"{value:.4f}" for value in weights.mean(dim=1).tolist())
    return f"{means} (oldest layer first)" + (
        f", means of {weights.shape[1]} channels" if weights.shape[1] > 1 else ""
    )


def _plain(name: str) -> str:
    """A name out of the file, fit for a terminal."""
    return name[:80] if name.isprintable() else ascii(name[:80])
