"""Commands about photos and datasets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Each command imports what it needs when it runs: `adaface --help` must not take the seconds that torch and Ray take.


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add them to the command line; `common` are the options that every command has."""
    examine = commands.add_parser("doctor", parents=[common, configured()], help="look for what is missing or broken")
    examine.add_argument("--config", metavar="FILE", help="also look at the models, sources and output of this one")
    examine.add_argument("--json", action="store_true", help="print the findings as JSON")
    examine.add_argument(
        "--full-size",
        action="store_true",
        help="also run models of Stable Diffusion 1.5's size with random weights on the CPU (minutes, 6 GB of memory)",
    )
    examine.set_defaults(run=doctor)

    verify = commands.add_parser("verify-dataset", parents=[common], help="check every file of a dataset folder")
    verify.add_argument("dataset", help="dataset folder or URI")
    verify.set_defaults(run=verify_dataset)

    export = commands.add_parser("export-pairs", parents=[common], help="write x.jpg + x_mask.png pairs")
    export.add_argument("dataset", help="dataset folder or URI")
    export.add_argument("destination", help="folder to write to")
    export.set_defaults(run=export_pairs)

    render = commands.add_parser(
        "render-faces", parents=[common], help="draw a photo album with known faults, to try a build on"
    )
    render.add_argument("album", metavar="OUT", help="folder to make: people/PERSON/*.jpg, flat/*.jpg, truth.jsonl")
    render.add_argument("--identities", type=int, required=True, metavar="N", help="people, each with a folder")
    render.add_argument("--images", type=int, required=True, metavar="M", help="files in each folder")
    render.add_argument("--faults", type=float, required=True, metavar="F", help="share of faulty files, 0 to 0.5")
    render.add_argument("--flat", type=int, metavar="K", help="files in the flat folder (default: 2 N)")
    render.add_argument(
        "--studio",
        type=float,
        default=0.0,
        metavar="S",
        help="share of the good photos taken in a studio (default: 0)",
    )
    render.add_argument("--seed", type=int, default=0, help="equal seeds give equal files (default: 0)")
    render.set_defaults(run=render_faces)


def configured() -> argparse.ArgumentParser:
    """The options that change a configuration; later ones win."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one value of the configuration, e.g. data.min_face=64; may be repeated",
    )
    parser.add_argument(
        "--changes",
        action="extend",
        type=_changes,
        metavar="FILE",
        dest="overrides",
        help="change all that is in this YAML file, which has sections and keys as the configuration has",
    )
    return parser


def _changes(file: str) -> list[str]:
    """A file of changes as `--set` takes them."""
    import yaml

    from ray_jobs.pipeline_config import flattened

    try:
        values = yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise argparse.ArgumentTypeError(f"{file} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError(f"{file} has no sections")
    return list(flattened(values))


def doctor(arguments: argparse.Namespace) -> int:
    if arguments.overrides and not arguments.config:
        raise ValueError("--set changes a configuration: name it with --config FILE")
    from flows.doctor import examine, examine_full_size, exit_code, print_json, print_table

    findings = list(examine_full_size()) if arguments.full_size else []
    findings = examine(arguments.config, arguments.overrides) + findings
    (print_json if arguments.json else print_table)(findings, sys.stdout)
    return exit_code(findings)


def verify_dataset(arguments: argparse.Namespace) -> int:
    from data_pipeline.verify import verify

    problems = verify(arguments.dataset)
    for problem in problems:
        print(problem)
    verdict = f"{len(problems)} problem{'s'[: len(problems) > 1]}" if problems else "sound"
    print(f"{arguments.dataset}: {verdict}")
    return int(bool(problems))


def export_pairs(arguments: argparse.Namespace) -> int:
    from data_pipeline.pairs import export

    counts = export(arguments.dataset, arguments.destination)
    print(f"{arguments.destination}: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
    return 0


def render_faces(arguments: argparse.Namespace) -> int:
    from adaface.miniature.album.plan import AlbumSize
    from adaface.miniature.album.write import write_album

    flat = max(0, 2 * arguments.identities) if arguments.flat is None else arguments.flat
    size = AlbumSize(arguments.identities, arguments.images, arguments.faults, flat, arguments.seed, arguments.studio)
    kinds = write_album(arguments.album, size)["kinds"]
    for kind, files in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"{files:>8,}  {kind}")
    return 0
