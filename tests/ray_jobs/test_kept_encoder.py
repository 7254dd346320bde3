"""An encoder is put where others look for encoders: one that is half there is none yet."""

from __future__ import annotations

from pathlib import Path

from adaface.encoder.files import CONFIG
from data_pipeline.storage import Storage
from ray_jobs.kept_encoder import keep_encoder


class Recorded(Storage):
    """Knows in which order files came."""

    def write_bytes(self, name: str, data: bytes) -> None:
        self.order = [*getattr(self, "order", []), name]
        super().write_bytes(name, data)


def test_the_configuration_comes_last_and_not_that_of_the_teacher(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    for name in (CONFIG, "adaface.safetensors", f"teacher/{CONFIG}", "teacher/model.safetensors", "vision/z.json"):
        (encoder / name).parent.mkdir(parents=True, exist_ok=True)
        (encoder / name).write_text(name)
    out = Recorded(tmp_path / "run")
    keep_encoder(encoder, out, "milestones/step-5")
    assert out.order[-1] == f"milestones/step-5/{CONFIG}" and len(out.order) == 5
    there = tmp_path / "run/milestones/step-5"
    assert {path.relative_to(there).as_posix(): path.read_text() for path in there.rglob("*") if path.is_file()} == {
        path.relative_to(encoder).as_posix(): path.read_text() for path in encoder.rglob("*") if path.is_file()
    }
