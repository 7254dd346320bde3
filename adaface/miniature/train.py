"""Train one of the tiny models from scratch: `python -m adaface.miniature.train NAME`.

Runs are resumed where they stopped. The order in which the models build on each other is `ORDER`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from adaface.miniature.training import Task, Trainer
from adaface.models.device import chosen_device

# name -> module in `recipes` and the class in it; later ones need the weights of earlier ones
ORDER = {
    "detector": "detector:DetectorTask",
    "second_look": "second_look:SecondLookTask",
    "recogniser": "recogniser:RecogniserTask",
    "judge": "recogniser:JudgeTask",
    "attributes": "attributes:AttributesTask",
    "parser": "parser:ParserTask",
    "factors": "factors:FactorsTask",
    "clip": "clip:ClipTask",
    "vae": "vae:VaeTask",
    "sd": "diffusion:StableDiffusionTask",
    "teacher_first": "teacher:FirstTeacherTask",
    "names_first": "names:FirstNamesTask",
    "names_second": "names:MoreNamesTask",
    "names": "names:NamesTask",
    "teacher": "teacher:TeacherTask",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m adaface.miniature.train", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(ORDER), help="which model; they build on each other in this order")
    parser.add_argument("--runs", type=Path, default=Path("out/miniature"), help="checkpoints, logs, rendered data")
    parser.add_argument("--weights", type=Path, help="where finished models are read and written (RUNS/weights)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="instead of the recipe's number")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: the GPU where there is one)")
    parser.add_argument(
        "--threads", type=int, help="CPU threads (default: all cores, shared among torchrun's workers)"
    )
    parser.add_argument("--export", action="store_true", help="do not train: evaluate and export the last checkpoint")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    try:
        device = chosen_device(given.device, "--device")
    except ValueError as error:
        parser.error(str(error))
    weights = given.weights or given.runs / "weights"
    task = make_task(given.name, given.runs / "data", weights, device)
    if given.steps:
        task.schedule = replace(task.schedule, steps=given.steps)
    trainer = Trainer(task, given.runs / given.name, seed=given.seed, device=device)
    if given.export and trainer.step == 0:
        print(f"nothing to export: {trainer.folder} has no checkpoint; train first", file=sys.stderr)
        return 1
    if not given.export:
        trainer.run()
    if trainer.rank == 0:
        trainer.use_average()
        with torch.inference_mode():
            metrics = task.evaluate()
        task.export(weights)
        summary = {"steps": trainer.step, "minutes": round(trainer.seconds / 60, 1), **metrics}
        (trainer.folder / "metrics.json").write_text(json.dumps(summary, indent=1) + "\n")
        print(json.dumps(summary))
    if trainer.workers > 1:
        torch.distributed.destroy_process_group()
    return 0


def make_task(name: str, data: Path, weights: Path, device: torch.device) -> Task:
    """The task of one of `ORDER`, untrained."""
    module, kind = ORDER[name].split(":")
    make = getattr(importlib.import_module(f"adaface.miniature.recipes.{module}"), kind)
    task: Task = make(data=data, weights=weights, device=device)
    return task


if __name__ == "__main__":
    sys.exit(main())
