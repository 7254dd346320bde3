"""The console command `adaface`.

Exit codes: 0 done, 1 failed or not sound, 2 bad configuration, input or usage, 130 interrupted,
141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

# Each command imports what it needs when it runs: `adaface --help` must not take the seconds that torch and Ray take.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        next_time = "goes on where this one stopped" if arguments.run is _build_dataset else "starts anew"
        print(f"adaface: interrupted; the same command {next_time}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if arguments.debug or _is_ours(error.name):
            raise
        remedy = "install the pipeline: pip install -c constraints.txt -e '.[pipeline]'"
        return _failed(f"the package {error.name} is missing; {remedy}", 2)
    except (ValueError, FileNotFoundError) as error:
        if arguments.debug:
            raise
        return _failed(str(error), 2)
    except BrokenPipeError:  # `adaface ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, RuntimeError) as error:
        if arguments.debug:
            raise
        return _failed(f"{error} (--debug shows where)", 1)


def _parser() -> argparse.ArgumentParser:
    from adaface import __version__

    parser = argparse.ArgumentParser(prog="adaface", description="From raw photos to face datasets, step by step.")
    parser.add_argument("--version", action="version", version=f"adaface {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one value of the configuration, e.g. data.min_face=64; may be repeated",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", parents=[common, configured], help="look for what is missing or broken")
    doctor.add_argument("--config", metavar="FILE", help="also look at the models, sources and output of this one")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)

    build = commands.add_parser("build-dataset", parents=[common, configured], help="photos -> dataset folder")
    build.add_argument(
        "--config", metavar="FILE", required=True, help="configuration; configs/faces.yaml is a template"
    )
    build.add_argument("--address", help="a running Ray cluster; without it, or RAY_ADDRESS, a local Ray is started")
    build.set_defaults(run=_build_dataset)

    verify = commands.add_parser("verify-dataset", parents=[common], help="check every file of a dataset folder")
    verify.add_argument("dataset", help="dataset folder or URI")
    verify.set_defaults(run=_verify_dataset)

    export = commands.add_parser("export-pairs", parents=[common], help="write x.jpg + x_mask.png pairs")
    export.add_argument("dataset", help="dataset folder or URI")
    export.add_argument("destination", help="folder to write to")
    export.set_defaults(run=_export_pairs)

    render = commands.add_parser(
        "render-faces", parents=[common], help="draw a photo album with known faults, to try a build on"
    )
    render.add_argument("album", metavar="OUT", help="folder to make: people/PERSON/*.jpg, flat/*.jpg, truth.jsonl")
    render.add_argument("--identities", type=int, required=True, metavar="N", help="people, each with a folder")
    render.add_argument("--images", type=int, required=True, metavar="M", help="files in each folder")
    render.add_argument("--faults", type=float, required=True, metavar="F", help="share of faulty files, 0 to 0.5")
    render.add_argument("--flat", type=int, metavar="K", help="files in the flat folder (default: 2 N)")
    render.add_argument("--seed", type=int, default=0, help="equal seeds give equal files (default: 0)")
    render.set_defaults(run=_render_faces)
    return parser


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.overrides and not arguments.config:
        raise ValueError("--set changes a configuration: name it with --config FILE")
    from flows.doctor import examine, exit_code, print_json, print_table

    findings = examine(arguments.config, arguments.overrides)
    (print_json if arguments.json else print_table)(findings, sys.stdout)
    return exit_code(findings)


def _build_dataset(arguments: argparse.Namespace) -> int:
    from ray_jobs.config_file import load

    config = load(arguments.config, arguments.overrides)  # before the imports that take seconds
    from ray_jobs.build_dataset import run
    from ray_jobs.runtime import log_to_stdout

    log_to_stdout()
    # the way out of an exception: Ray is shut down and progress.json says that the build has ended
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    dataset = run(config, address=arguments.address)
    for reason, images in sorted(dataset["reasons"].items(), key=lambda item: -item[1]):
        print(f"{images:>8,}  {reason}")
    return 0


def _verify_dataset(arguments: argparse.Namespace) -> int:
    from data_pipeline.verify import verify

    problems = verify(arguments.dataset)
    for problem in problems:
        print(problem)
    verdict = f"{len(problems)} problem{'s'[: len(problems) > 1]}" if problems else "sound"
    print(f"{arguments.dataset}: {verdict}")
    return int(bool(problems))


def _export_pairs(arguments: argparse.Namespace) -> int:
    from data_pipeline.pairs import export

    counts = export(arguments.dataset, arguments.destination)
    print(f"{arguments.destination}: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
    return 0


def _render_faces(arguments: argparse.Namespace) -> int:
    from adaface.miniature.album.plan import AlbumSize
    from adaface.miniature.album.write import write_album

    flat = max(0, 2 * arguments.identities) if arguments.flat is None else arguments.flat
    size = AlbumSize(arguments.identities, arguments.images, arguments.faults, flat, arguments.seed)
    kinds = write_album(arguments.album, size)["kinds"]
    for kind, files in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"{files:>8,}  {kind}")
    return 0


def _is_ours(module: str | None) -> bool:
    return module is None or module.partition(".")[0] in ("adaface", "data_pipeline", "ray_jobs", "flows")


def _failed(message: str, code: int) -> int:
    print(f"adaface: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
