"""Put finished weights into the package: `python -m adaface.miniature.ship`. Writes the manifest beside them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from adaface.encoder.model import AdaFaceEncoder
from adaface.miniature.shipped import WEIGHTS
from adaface.miniature.train import ORDER
from adaface.shipped_files import MANIFEST, sha256

MAX_BYTES = 45_000_000
ENCODER = "encoder"  # distilled in this world by ray_jobs.distill, and no recipe's
# What the package holds of each model; a folder stands for everything in it. Those without an entry go into others.
CONTENT: dict[str, tuple[str, ...]] = {
    "second_look": ("pack/detector.onnx",),
    "recogniser": ("pack/recogniser.onnx",),
    "judge": ("judge/recogniser.onnx",),
    "attributes": ("pack/attributes.onnx",),
    "parser": ("parser/bisenet.safetensors",),
    "factors": ("factors/classifier.safetensors",),
    "clip": ("clip",),
    "vae": ("sd/vae",),
    "teacher": ("teacher",),
    "names": ("sd",),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m adaface.miniature.ship", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("--runs", type=Path, help="what `train` wrote (default: out/miniature)")
    parser.add_argument("--to", type=Path, default=WEIGHTS)
    parser.add_argument(
        "--only", nargs="+", choices=list(ORDER), metavar="NAME", help="these models and no others (all)"
    )
    parser.add_argument(
        "--encoder",
        type=Path,
        help="a distilled encoder's folder; without it the one that is there stays, without --runs everything else does",
    )
    given = parser.parse_args(arguments)
    try:
        if given.encoder is not None and given.runs is None and not given.only:
            manifest = ship_encoder(given.encoder, given.to)
        else:
            manifest = ship(given.runs or Path("out/miniature"), given.to, given.only or ORDER, given.encoder)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    print(f"{len(manifest['files'])} files, {size / 1e6:.1f} MB, in {given.to}")
    return 0


def ship(runs: Path, to: Path, models: Iterable[str] = tuple(ORDER), encoder: Path | None = None) -> dict:
    """Copy the weights of these models from `runs` to the folder `to`, which is replaced as a whole; returns the manifest.

    Args:
        encoder: goes along in half precision; None: the one that is in `to`, if there is one.

    Raises:
        FileNotFoundError: a model is not finished; all that are missing are named.
        ValueError: together they are larger than `MAX_BYTES`.
    """
    source = runs / "weights"
    names = [name for name in ORDER if name in set(models)]
    content = [part for name in names for part in CONTENT.get(name, ())]
    missing = [part for part in content if not (source / part).exists()]
    missing += [f"metrics of {name}" for name in names if not (runs / name / "metrics.json").exists()]
    if missing:
        raise FileNotFoundError(f"{runs} is not finished: {', '.join(missing)} missing; train them first")
    fresh = to.with_name(f"{to.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    for file in {file for part in content for file in _files(source / part)}:
        copy = fresh / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        if copy.name == "config.json":
            _forget_the_place(copy)
    if encoder is not None:
        AdaFaceEncoder.from_pretrained(encoder).half().save_pretrained(fresh / ENCODER, teacher="reference")
    elif (to / ENCODER).is_dir():
        shutil.copytree(to / ENCODER, fresh / ENCODER)
    metrics = {name: json.loads((runs / name / "metrics.json").read_text()) for name in names}
    return _put(fresh, to, {"commit": _commit(), "models": metrics})


def ship_encoder(encoder: Path, to: Path) -> dict:
    """Another encoder beside the weights that are in the folder `to`, in half precision; returns the manifest.

    Raises:
        FileNotFoundError: there is no encoder, or no manifest in `to`.
        ValueError: it is damaged, or too large beside the others.
    """
    if not (to / MANIFEST).is_file():
        raise FileNotFoundError(f"{to} has no {MANIFEST}; ship the networks first, with --runs")
    made = AdaFaceEncoder.from_pretrained(encoder).half()
    fresh = to.with_name(f"{to.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(to, fresh, ignore=shutil.ignore_patterns(ENCODER, MANIFEST))
    made.save_pretrained(fresh / ENCODER, teacher="reference")
    return _put(fresh, to, json.loads((to / MANIFEST).read_text()))


def _put(fresh: Path, to: Path, said: dict) -> dict:
    """The folder `fresh` in the place of `to`, with a manifest that says this and what files there are."""
    entries: dict[str, dict] = {
        file.relative_to(fresh).as_posix(): {"sha256": sha256(file), "bytes": file.stat().st_size}
        for file in sorted(_files(fresh))
    }
    size = sum(entry["bytes"] for entry in entries.values())
    if size > MAX_BYTES:
        shutil.rmtree(fresh)
        raise ValueError(f"the weights take {size / 1e6:.1f} MB, the package has room for {MAX_BYTES / 1e6:.0f}")
    manifest = {"commit": said["commit"], "files": entries, "models": said["models"]}
    (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(to, ignore_errors=True)
    os.replace(fresh, to)
    return manifest


def _forget_the_place(config: Path) -> None:
    """Diffusers writes into a configuration which folder it was loaded from, which says nothing elsewhere."""
    values = json.loads(config.read_text())
    if values.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(values, indent=2) + "\n")


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _commit() -> str:
    """The commit of the recipes, with a mark where they were changed since."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(
        describe, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
