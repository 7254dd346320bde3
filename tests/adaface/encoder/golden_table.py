"""The golden cases of the encoder, and their largest errors as a table: `python -m tests.adaface.encoder.golden_table`.

Needs ../shared/golden beside the project, or its folder as the only argument.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.adaface.encoder import golden_encoder, golden_generators, golden_text
from tests.adaface.encoder.golden_files import EXACT, FEATURES, GRADIENTS, HALF, VALUES, Check

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "golden"
CASES: dict[str, Callable[[Path], Iterator[Check]]] = {
    "1 teacher": golden_encoder.teacher,
    "2 inverse encoder": golden_encoder.inverse_encoder,
    "3 several keys per token": golden_encoder.multi_kv,
    "4 subject generator": golden_generators.subject_generator,
    "4 background generator": golden_generators.background_generator,
    "4c image features": golden_generators.features_of_images,
    "5 parameters of a checkpoint": golden_generators.checkpoint,
    "5 pickled checkpoints": golden_generators.pickled_checkpoint,
    "5b placeholders": golden_generators.placeholders,
    "5c face choice": golden_generators.face_choice,
    "6 mixed layers": golden_text.text_conditioning,
    "7a noise, gradient scale": golden_text.noise_and_gradients,
}
KINDS = {"values": (VALUES, FEATURES, EXACT), "gradients": (GRADIENTS,), "half precision": (HALF,)}


def table(folder: Path = FOLDER) -> str:
    """Markdown: per case how many tensors were compared, and the largest absolute error of each kind."""
    lines = ["| case | what it pins | tensors | " + " | ".join(KINDS) + " |", "|---|---|---|" + "---|" * len(KINDS)]
    for name, case in CASES.items():
        checks = list(case(folder))
        errors = [
            f"{max(found):.1e}" if (found := [check.error for check in checks if check.tolerance in kinds]) else ""
            for kinds in KINDS.values()
        ]
        pins = (case.__doc__ or "").partition("\n")[0].rstrip(".")
        lines.append(f"| {name} | {pins} | {len(checks)} | " + " | ".join(errors) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
