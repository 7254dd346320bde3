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
    doctor.add_argument(
        "--full-size",
        action="store_true",
        help="also run models of Stable Diffusion 1.5's size with random weights on the CPU (minutes, 6 GB of memory)",
    )
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

    original = commands.add_parser(
        "convert",
        parents=[common],
        help="a checkpoint of the original (.pt) -> encoder folder; nothing in the file runs",
    )
    original.add_argument("checkpoint", metavar="ORIGINAL.pt", help="embeddings_gs-N.pt, full or slim")
    original.add_argument("destination", metavar="OUT", help="folder to make")
    original.add_argument("--subject", metavar="WORD", help="whose generator to take, e.g. z (default: the only one)")
    original.add_argument("--no-background", action="store_true", help="leave the background generator out")
    original.add_argument(
        "--teacher", metavar="PATH_OR_ID", help="the teacher's text encoder: folder or hub id (default: Arc2Face's)"
    )
    original.add_argument("--teacher-subfolder", default="", metavar="NAME", help="folder of the text encoder inside")
    original.add_argument("--reference-teacher", action="store_true", help="write where it lies instead of copying it")
    original.add_argument(
        "--face-pack", default="", metavar="PATH", help="insightface pack that the folder shall name"
    )
    original.set_defaults(run=_convert)

    compose = commands.add_parser(
        "compose-base",
        parents=[common],
        help="put another text encoder and another VAE into a Stable Diffusion checkpoint",
    )
    compose.add_argument("--base", required=True, metavar="SD15", help="SD 1.5: a single file, or a diffusers folder")
    compose.add_argument("--text-encoder", metavar="OTHER", help="file or folder to take the text encoder from")
    compose.add_argument("--vae", metavar="VAE", help="file or folder to take the VAE from")
    compose.add_argument("--out", required=True, help="file or folder to make, of the same format as the base")
    compose.add_argument("--dtype", choices=("fp16", "bf16", "fp32"), help="of all weights (default: the base's)")
    compose.set_defaults(run=_compose_base)

    models = commands.add_parser("models", parents=[common], help="list, check and download the models")
    models.add_argument("names", nargs="*", metavar="NAME", help="which ones (default: all)")
    models.add_argument("--check", action="store_true", help="compare sha256 and look into pickles, too")
    models.add_argument("--download", nargs="+", metavar="NAME", help="from the Hugging Face hub; `all` for every one")
    models.add_argument("--root", default="models", metavar="DIR", help="the models folder (default: models)")
    models.set_defaults(run=_models)

    draw = commands.add_parser(
        "generate",
        parents=[common],
        argument_default=argparse.SUPPRESS,  # the defaults are those of GenerateSettings
        help="photos of a person and prompts -> pictures of that person",
    )
    draw.add_argument("--encoder", required=True, metavar="DIR", help="encoder: folder, package://... or hub id")
    draw.add_argument("--images", required=True, nargs="+", metavar="PATH", help="photos of one person, or folders")
    draw.add_argument(
        "--prompt",
        required=True,
        action="append",
        dest="prompts",
        metavar="TEXT",
        help="e.g. 'z riding a horse, (oil painting:1.2)'; z is the person, put in front when left out; may be repeated",
    )
    draw.add_argument("--out", required=True, metavar="DIR", help="folder to make: grid.png, images/, settings.json")
    draw.add_argument(
        "--base", metavar="MODEL", help="Stable Diffusion 1.5 or a relative: folder, single file, hub id"
    )
    draw.add_argument(
        "--negative", dest="negative_prompt", metavar="TEXT", help="instead of the original's; '' for none"
    )
    draw.add_argument("--face-pack", metavar="DIR", help="insightface model pack (default: the encoder's own)")
    draw.add_argument("--token", help="word that stands for the person (default: z)")
    draw.add_argument("--id-scale", type=float, metavar="S", help="over 1 exaggerates the person (default: 1)")
    draw.add_argument("--noise", type=float, metavar="N", help="on the ID embedding, e.g. 0.06 (default: 0)")
    draw.add_argument("--steps", type=int, metavar="N", help="of DDIM (default: 50)")
    draw.add_argument(
        "--guidance", type=float, nargs="+", metavar="G", help="scale at the first and the last step (default: 4 1)"
    )
    draw.add_argument("--images-per-prompt", type=int, metavar="N", help="(default: 4)")
    draw.add_argument("--batch", type=int, metavar="N", help="pictures drawn at once (default: 4)")
    draw.add_argument(
        "--seed", type=int, metavar="N", help="of the first picture; the next one has N + 1 (default: 42)"
    )
    draw.add_argument("--init", metavar="IMAGE", help="picture to start from")
    draw.add_argument("--strength", type=float, metavar="F", help="how much of --init is drawn anew (default: 0.8)")
    draw.add_argument("--clip-skip", type=int, metavar="N", help="layers of the text encoder left out (default: none)")
    draw.add_argument("--long-prompts", choices=("refuse", "chunk"), help="longer than the window (default: refuse)")
    draw.add_argument("--device", help="auto, cpu, cuda, ... (default: auto)")
    draw.set_defaults(run=_generate)
    return parser


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.overrides and not arguments.config:
        raise ValueError("--set changes a configuration: name it with --config FILE")
    from flows.doctor import examine, examine_full_size, exit_code, print_json, print_table

    findings = list(examine_full_size()) if arguments.full_size else []
    findings = examine(arguments.config, arguments.overrides) + findings
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


def _convert(arguments: argparse.Namespace) -> int:
    from adaface.original.conversion import convert, report

    original = convert(
        arguments.checkpoint,
        arguments.destination,
        subject=arguments.subject,
        background=not arguments.no_background,
        teacher=arguments.teacher,
        teacher_subfolder=arguments.teacher_subfolder,
        face_pack=arguments.face_pack,
        copy_teacher=not arguments.reference_teacher,
    )
    print("\n".join([*report(original), f"{arguments.destination}: written"]))
    return 0


def _compose_base(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from adaface.model_path import model_path
    from adaface.surgery.compose import DTYPES, compose

    text_encoder, vae = (model_path(name) if name else None for name in (arguments.text_encoder, arguments.vae))
    dtype = DTYPES[arguments.dtype] if arguments.dtype else None
    composed = compose(
        model_path(arguments.base), Path(arguments.out), text_encoder=text_encoder, vae=vae, dtype=dtype
    )
    print("\n".join(composed.lines()))
    return 0


def _generate(arguments: argparse.Namespace) -> int:
    from dataclasses import fields

    from adaface.subjects.generate import GenerateSettings, generate

    given = vars(arguments)
    values = {field.name: given[field.name] for field in fields(GenerateSettings) if field.name in given}
    for name in ("images", "prompts"):
        values[name] = tuple(values[name])
    if "guidance" in values:
        scales = values["guidance"]
        values["guidance"] = (scales[0], scales[0]) if len(scales) == 1 else tuple(scales)
    print(generate(GenerateSettings(**values)))
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from adaface.models.files import lines, look
    from adaface.models.registry import chosen

    root = Path(arguments.root).expanduser()
    if arguments.download:
        from adaface.models.download import download

        if arguments.names:
            raise ValueError(f"name all of them after --download; {', '.join(arguments.names)} stand before it")
        failed = []
        for artefact in chosen(arguments.download, downloadable=True):
            try:
                download(artefact, root)
            except (OSError, RuntimeError) as error:
                failed.append(str(error))
        if failed:
            raise RuntimeError("\n".join(failed))
        return 0
    found = [look(artefact, root, thorough=arguments.check) for artefact in chosen(arguments.names)]
    print("\n".join(lines(found)))
    # a model that is absent is a finding only where it was asked for
    fine = ("present",) if arguments.names else ("present", "missing")
    return int(any(one.state not in fine for one in found))


def _is_ours(module: str | None) -> bool:
    return module is None or module.partition(".")[0] in ("adaface", "data_pipeline", "ray_jobs", "flows")


def _failed(message: str, code: int) -> int:
    print(f"adaface: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
