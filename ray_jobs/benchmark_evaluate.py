"""How fast pictures are drawn and measured, against a bare loop over the same work in the same run.

    python -m ray_jobs.benchmark_evaluate --config configs/evaluate-miniature.yaml

The bare loop is one process: a diffusers pipeline and then calls of the measuring models, nothing kept or written. The
job draws and measures in two processes at the same time, or in more (`--set cluster.workers=2`), and writes every picture
and every feature. Ratios within one run carry over to other machines; pictures per minute do not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaface.evaluation.config import FunctionConfig, GenerationConfig, MeasuresConfig
from adaface.model_path import model_path
from data_pipeline.storage import Storage
from ray_jobs.benchmark import in_fresh_process
from ray_jobs.config_file import load
from ray_jobs.evaluate import Evaluation
from ray_jobs.evaluate_config import EvaluateConfig, with_absolute_paths
from ray_jobs.evaluate_input import check_input
from ray_jobs.evaluate_parts import Drawer, Measurer
from ray_jobs.runtime import ray_session, run_stages


@dataclass(frozen=True)
class Pace:
    """Seconds on the clock, and of CPU time in all processes that work on pictures, for each picture."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{60 / self.wall:.1f} pictures/min, {self.cpu:.3f} CPU s a picture"


class TimedDrawer(Drawer):
    """Says when it began and what it took."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        began, cpu = time.time(), time.process_time()
        return super().__call__(row) | {"began": began, "cpu": time.process_time() - cpu}


class TimedMeasurer(Measurer):
    """Passes that on, with what it took itself."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        cpu = time.process_time()
        result = super().__call__(row)
        return result | {
            "began": row["began"],
            "ended": time.time(),
            "cpu": row["cpu"] + time.process_time() - cpu,
        }


def job(config: EvaluateConfig) -> tuple[Pace, int]:
    """Of the job's actors, and for how many parts: all but the first of each that draws, with which models are loaded."""
    results: list[dict[str, Any]] = []
    with ray_session(None):
        placed = with_absolute_paths(config)
        evaluation = Evaluation(config, check_input(placed), Storage(config.output), None)
        plan = evaluation.plan()
        run_stages(
            [
                (TimedDrawer, {"job": plan}, evaluation.machines(measuring=False)),
                (TimedMeasurer, {"job": plan}, evaluation.machines(measuring=True)),
            ],
            [{"part": number, "subject": None} for number in range(len(plan.parts))],
            results.append,
        )
    rest = sorted(results, key=lambda result: result["began"])[config.cluster.workers :]
    pictures = sum(result["images"] for result in rest)
    wall = max(result["ended"] for result in rest) - rest[0]["began"]
    return Pace(wall / pictures, sum(result["cpu"] for result in rest) / pictures), len(rest)


def bare(config: EvaluateConfig, batches: int, threads: int) -> Pace:
    """Of a loop without any of the project's machinery; its first batch is not counted."""
    import torch

    from adaface.subjects.generate import load_base
    from ray_jobs.runtime import quiet_model_loading

    torch.set_num_threads(threads)
    quiet_model_loading("transformers", "diffusers")
    generation = config.generation
    pipe = load_base(generation.base, device=generation.device, dtype=getattr(torch, generation.precision))
    pipe.set_progress_bar_config(disable=True)
    look = _bare_measures(config.measures)
    size = config.generation.batch
    _draw_and_look(pipe, look, config.generation, size)
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        _draw_and_look(pipe, look, config.generation, size)
    pictures = batches * size
    return Pace((time.perf_counter() - began) / pictures, (time.process_time() - cpu) / pictures)


def _draw_and_look(pipe: Any, look: Any, generation: GenerationConfig, size: int) -> None:
    drawn = pipe(
        ["a photo of a woman on the beach"] * size,
        negative_prompt=[generation.negative_prompt or ""] * size,
        num_inference_steps=generation.steps,
        guidance_scale=generation.guidance[0],
        width=generation.width,
        height=generation.height,
        output_type="np",
    ).images
    look(list((drawn * 255).round().astype(np.uint8)))


def _bare_measures(measures: MeasuresConfig) -> Any:
    """All the models of `measures` as functions of a list of pictures, one after another."""
    import torch
    from transformers import CLIPModel

    from adaface.evaluation.entry_points import open_entry_point
    from adaface.evaluation.model_folders import locate_model
    from adaface.evaluation.picture_input import clip_input
    from adaface.perception.faces import FaceAnalyser
    from adaface.perception.recogniser import Recogniser

    faces = FaceAnalyser(measures.faces)
    judges = [Recogniser(model_path(judge.file), device=measures.faces.device) for judge in measures.judges]
    told = [measures.scene_classifier, *measures.image_encoders.values()]
    functions = [each for each in told if isinstance(each, FunctionConfig)]
    own = [open_entry_point(each.entry_point, each.settings) for each in functions]
    clip = None
    if measures.clip:
        folder = locate_model(measures.clip)
        clip = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
        pixels = clip_input(folder, clip.config.vision_config.image_size)

    @torch.inference_mode()
    def look(pictures: list[np.ndarray]) -> None:
        found = faces.analyse(pictures)
        crops = [each.aligned for each in found if each.aligned is not None]
        for judge in judges:
            judge.embed(crops)
        if clip is not None:
            clip.get_image_features(pixel_values=pixels(pictures))
        for function in own:
            function(pictures)

    return look


def compare(config: EvaluateConfig, folder: Path, repeats: int) -> None:
    """Print the paces and their ratios."""
    method = next((each for each in config.methods if each.kind == "class_word"), None)
    if method is None:
        raise ValueError("a method of kind class_word is needed: the bare loop draws what it draws")
    config = config.model_copy(update={"methods": [method]})
    best: dict[str, Pace] = {}

    def record(name: str, pace: Pace) -> None:
        print(f"{name}: {pace}", flush=True)
        kept = best.setdefault(name, pace)
        best[name] = Pace(min(kept.wall, pace.wall), min(kept.cpu, pace.cpu))

    for repeat in range(repeats):
        # here and not in a process of its own: Ray sends the actors of the main module as they are
        pace, parts = job(config.model_copy(update={"output": str(folder / f"run-{repeat}")}))
        record("job", pace)
        for threads in sorted({1, os.cpu_count() or 1}):
            record(f"bare loop, {threads} thread(s)", in_fresh_process(bare, config, parts, threads))
    for name, pace in best.items():
        if name != "job":
            speed, cost = pace.wall / best["job"].wall, pace.cpu / best["job"].cpu
            print(f"job / {name}, best of {repeats}: {speed:.3f} in pictures/min, {cost:.3f} in pictures per CPU s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ray_jobs.benchmark_evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adaface-benchmark-") as folder:
        compare(load(EvaluateConfig, options.config, options.set), Path(folder), options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
