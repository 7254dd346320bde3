"""Commands about encoders, models and pictures."""

from __future__ import annotations

import argparse

# Each command imports what it needs when it runs: `adaface --help` must not take the seconds that torch and Ray take.


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add them to the command line; `common` are the options that every command has."""
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
    original.set_defaults(run=convert)

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
    compose.set_defaults(run=compose_base)

    listing = commands.add_parser("models", parents=[common], help="list, check and download the models")
    listing.add_argument("names", nargs="*", metavar="NAME", help="which ones (default: all)")
    listing.add_argument("--check", action="store_true", help="compare sha256 and look into pickles, too")
    listing.add_argument(
        "--download", nargs="+", metavar="NAME", help="from the Hugging Face hub; `all` for every one"
    )
    listing.add_argument("--root", default="models", metavar="DIR", help="the models folder (default: models)")
    listing.set_defaults(run=models)

    draw = commands.add_parser(
        "generate",
        parents=[common],
        argument_default=argparse.SUPPRESS,  # the defaults are those of GenerateSettings
        help="photos of a person and prompts -> pictures of that person",
    )
    draw.add_argument(
        "--encoder",
        required=True,
        metavar="DIR",
        help="encoder: folder, package://... or hub id; in a folder of runs the newest",
    )
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
    draw.set_defaults(run=generate)


def convert(arguments: argparse.Namespace) -> int:
    from adaface.original import conversion

    original = conversion.convert(
        arguments.checkpoint,
        arguments.destination,
        subject=arguments.subject,
        background=not arguments.no_background,
        teacher=arguments.teacher,
        teacher_subfolder=arguments.teacher_subfolder,
        face_pack=arguments.face_pack,
        copy_teacher=not arguments.reference_teacher,
    )
    print("\n".join([*conversion.report(original), f"{arguments.destination}: written"]))
    return 0


def compose_base(arguments: argparse.Namespace) -> int:
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


def models(arguments: argparse.Namespace) -> int:
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


def generate(arguments: argparse.Namespace) -> int:
    from dataclasses import fields

    _quiet()
    from adaface.encoder.files import CONFIG
    from adaface.evaluation.methods.encoder import newest_encoder
    from adaface.model_path import model_path
    from adaface.subjects import generate as drawing

    given = vars(arguments)
    values = {field.name: given[field.name] for field in fields(drawing.GenerateSettings) if field.name in given}
    for name in ("images", "prompts"):
        values[name] = tuple(values[name])
    folder = model_path(arguments.encoder)
    if folder.is_dir() and not (folder / CONFIG).is_file():  # a run, or a folder of runs
        values["encoder"] = str(newest_encoder(folder))
    if "guidance" in values:
        scales = values["guidance"]
        values["guidance"] = (scales[0], scales[0]) if len(scales) == 1 else tuple(scales)
    print(drawing.generate(drawing.GenerateSettings(**values)))
    return 0


def _quiet() -> None:
    """Without the notes and progress bars of the libraries: what went wrong is said in a line of our own."""
    from transformers.utils import logging as of_transformers

    of_transformers.set_verbosity_error()  # before diffusers is imported, which makes transformers talk
    of_transformers.disable_progress_bar()
    from diffusers.utils import logging as of_diffusers

    of_diffusers.set_verbosity_error()
    of_diffusers.disable_progress_bar()
