"""Measure finished models against their bars: `python -m adaface.miniature.measure`. Writes a page with pictures.

Everything is measured on people who were in no training set, from the files as they are shipped.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import cv2
import torch

from adaface.miniature.measure.bars import judge, table
from adaface.miniature.measure.found_faces import FaceReader
from adaface.miniature.measure.generators import people_and_photos
from adaface.miniature.measure.grids import GRIDS
from adaface.miniature.measure.reconstruction import identity_kept
from adaface.miniature.networks.vae import load_vae
from adaface.miniature.ship import CONTENT
from adaface.miniature.shipped import WEIGHTS
from adaface.miniature.train import ORDER, make_task

_CAPTIONS = {
    "world": "The renderer: six people, three plain photographs each, then scenes, styles and lights.",
    "vae": "Pictures, and below them what the VAE makes of them.",
    "names": "Twelve people (first row: photographs), drawn by Stable Diffusion from their traits in words; one prompt a row.",
    "encoder": "The same people, drawn from the photographs in the first row by the shipped encoder: z in the same prompts.",
    "teacher": "Photographs, and below each three pictures that the teacher draws from its ID embedding alone.",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m adaface.miniature.measure", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which models (those that are shipped): {', '.join(ORDER)}"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="default: the shipped ones")
    parser.add_argument(
        "--data", type=Path, default=Path("out/miniature/data"), help="where held-out pictures are kept"
    )
    parser.add_argument("--page", type=Path, help="write this Markdown page, and its pictures beside it")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in ORDER]
    if unknown:
        parser.error(f"unknown models {', '.join(unknown)}: known are {', '.join(ORDER)}")
    torch.manual_seed(0)
    measures = {name: _measure(name, given.weights, given.data) for name in given.names or CONTENT}
    results = [result for result in judge(measures) if result.bar.model in measures]
    print(table(results))
    if given.page:
        _write_page(given.page, given.weights, table(results), measures)
    return 0 if all(result.met for result in results) else 1


def _measure(name: str, weights: Path, data: Path) -> dict[str, float]:
    print(f"measuring {name}", file=sys.stderr, flush=True)
    task = make_task(name, data, weights, torch.device("cpu"))
    task.load(weights)
    for module in task.modules.values():
        module.eval()
    with torch.inference_mode():
        measures = task.evaluate()
    if name == "vae":
        measures |= identity_kept(load_vae(weights), people_and_photos()[1], FaceReader(weights))
    return measures


def _write_page(page: Path, weights: Path, bars: str, measures: dict[str, dict[str, float]]) -> None:
    pictures = page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [
        "# The miniature world, measured",
        "",
        "Made by `python -m adaface.miniature.measure --page docs/miniature.md` on "
        f"{platform.machine()}, torch {torch.__version__}; held-out people, shipped files.",
        "",
        bars,
    ]
    for name, draw in GRIDS.items():
        if name in ORDER and name not in measures:
            continue
        sheet = draw(weights)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 88]
        cv2.imwrite(str(pictures / f"{name}.jpg"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), quality)
        parts += ["", _CAPTIONS[name], "", f"![{name}]({pictures.name}/{name}.jpg)"]
    parts += [
        "",
        "## Making the models anew",
        "",
        "Each is trained from scratch by its recipe, in this order, since later ones build on earlier ones. A run that is",
        "stopped goes on where it was; a GPU is used where there is one; `torchrun` gives it several processes.",
        "",
        *(f"    python -m adaface.miniature.train {name}" for name in ORDER),
        "    python -m adaface.miniature.ship",
    ]
    parts += ["", "## Everything that was measured", "", "```json", json.dumps(measures, indent=1), "```", ""]
    page.write_text("\n".join(parts))


if __name__ == "__main__":
    sys.exit(main())
