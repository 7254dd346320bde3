"""A folder of photos and some prompts -> pictures of that person, a grid, and what it takes to make them again."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from adaface import __version__
from adaface.encoder.files import WEIGHTS, locate
from adaface.encoder.model import AdaFaceEncoder
from adaface.model_path import may_be_on_the_hub, model_path
from adaface.models.device import chosen_device
from adaface.subjects.faces_of import check_faces, face_ids, list_photos, open_faces, read_photo
from adaface.subjects.guidance import annealed_guidance
from adaface.subjects.prompt_states import ORIGINAL_NEGATIVE
from adaface.subjects.prompt_tokens import LongPrompts
from adaface.subjects.subject import load_adaface

FORMAT = "adaface-generate/1"
COLUMNS = 4  # of the grid


@dataclass(frozen=True)
class GenerateSettings:
    """What `adaface generate` is asked for; the defaults are the original's. Written to settings.json as they are.

    Attributes:
        encoder: folder, `package://PACKAGE/PATH` or hub id.
        images: photos of one person: files and folders.
        prompts: with `token` for the person, in front where it is missing, and `(word:1.3)` for weights.
        out: folder to make.
        base: Stable Diffusion 1.5 or a relative: folder of diffusers, `package://...`, single file, hub id.
        negative_prompt: for all pictures; "" for none.
        face_pack: insightface model pack; the encoder's own by default.
        id_scale: over 1 exaggerates the person.
        noise: on the ID embedding; 0.06 is mostly safe.
        steps: of DDIM, without noise of its own.
        guidance: the scale at the first and the last step; in between it falls in a line.
        images_per_prompt: image k of every prompt starts from the noise of seed + k, whatever the batch.
        batch: images drawn at once.
        init: a picture to start from (image to image), of which `strength` of the way is drawn anew.
        clip_skip: layers of the text encoder left out.
        long_prompts: "refuse" or "chunk".
        device: "auto" is the GPU where there is one; half precision there, float32 on CPUs.
    """

    encoder: str
    images: tuple[str, ...]
    prompts: tuple[str, ...]
    out: str
    base: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    negative_prompt: str = ORIGINAL_NEGATIVE
    face_pack: str | None = None
    token: str = "z"
    id_scale: float = 1.0
    noise: float = 0.0
    steps: int = 50
    guidance: tuple[float, float] = (4.0, 1.0)
    images_per_prompt: int = 4
    batch: int = 4
    seed: int = 42
    init: str | None = None
    strength: float = 0.8
    clip_skip: int | None = None
    long_prompts: LongPrompts = "refuse"
    device: str = "auto"

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least {least}, not {getattr(self, name)}"
            for name, least in (("steps", 1), ("images_per_prompt", 1), ("batch", 1), ("seed", 0), ("noise", 0))
            if getattr(self, name) < least
        ]
        if not self.images:
            problems.append("name at least one photo or folder of photos")
        if not self.prompts or any(not prompt.strip() for prompt in self.prompts):
            problems.append("write at least one prompt, and no empty one")
        if len(self.guidance) != 2 or min(self.guidance) < 0:
            problems.append(f"guidance must be two scales, for the first and the last step, not {self.guidance}")
        elif self.guidance[0] <= 1 and self.guidance[1] != self.guidance[0]:
            problems.append(f"guidance cannot go from {self.guidance[0]:g} to {self.guidance[1]:g}: start above 1")
        if not 0 < self.strength <= 1:
            problems.append(f"strength must be above 0 and at most 1, not {self.strength}")
        elif self.init and int(self.steps * self.strength) < 1:
            problems.append(f"{self.steps} steps at strength {self.strength:g} leave none to draw")
        if problems:
            raise ValueError("; ".join(problems))


def generate(settings: GenerateSettings, say: Callable[[str], None] | None = None) -> Path:
    """Draw, and write OUT/grid.png, OUT/images/*.png and OUT/settings.json: all of them or nothing.

    Args:
        say: takes the progress line; by default it goes to standard error.

    Raises ValueError and FileNotFoundError for bad input, before models are loaded where it can be known then.
    """
    out = Path(settings.out).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder; name another --out")
    photos = list_photos(settings.images)
    init = _read_init(settings.init)
    # from cheap to expensive: what is wrong with encoder or photos is known before the base model is loaded
    weights = locate(settings.encoder) / WEIGHTS
    encoder = AdaFaceEncoder.from_pretrained(settings.encoder)
    pack = encoder.config.face_pack if settings.face_pack is None else settings.face_pack
    faces = open_faces(pack)
    check_faces(faces, encoder.config.id_dim, pack)
    ids = face_ids([photo for _, photo in photos], faces)
    pipe = load_base(settings.base, image_to_image=init is not None, device=settings.device)
    subject = load_adaface(pipe, encoder.to(pipe.device)).subject(
        ids=ids,
        token=settings.token,
        id_scale=settings.id_scale,
        noise=settings.noise,
        generator=torch.Generator().manual_seed(settings.seed),
    )
    states = subject.prompt(
        list(settings.prompts),
        negative_prompt=settings.negative_prompt,
        clip_skip=settings.clip_skip,
        long_prompts=settings.long_prompts,
    )
    seeds = [settings.seed + k for k in range(settings.images_per_prompt)]
    pictures = _draw(pipe, settings, states, seeds, init, say or _to_stderr)

    names = [[f"images/{row:02d}-seed{seed}.png" for seed in seeds] for row in range(len(settings.prompts))]
    record = {
        "format": FORMAT,
        "settings": asdict(settings),
        "images": [
            {"file": name, "prompt": prompt, "seed": seed}
            for prompt, row in zip(settings.prompts, names, strict=True)
            for name, seed in zip(row, seeds, strict=True)
        ],
        "photos": [name for name, _ in photos],
        "encoder_sha256": _sha256(weights),
        "pipeline": type(pipe).__name__,
        "scheduler": {"class": type(pipe.scheduler).__name__, **pipe.scheduler.config},
        "device": str(pipe.device.type),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "size": list(pictures[0][0].size),
        "versions": _versions(),
    }
    _write(out, pictures, names, record)
    return out


def load_base(
    base: str, *, image_to_image: bool = False, device: str = "auto", dtype: torch.dtype | None = None
) -> Any:
    """A pipeline with the original's sampler: DDIM with the base's own noise schedule, on its device, without a checker.

    Args:
        dtype: None: float32 on CPUs, half precision elsewhere.

    Raises FileNotFoundError for a path that does not exist, ValueError for a device that is not there.
    """
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
    from diffusers.utils import is_accelerate_available

    where = chosen_device(device)
    kind = StableDiffusionImg2ImgPipeline if image_to_image else StableDiffusionPipeline
    options: dict[str, Any] = {
        "dtype": dtype or (torch.float32 if where.type == "cpu" else torch.float16),
        "safety_checker": None,
        "requires_safety_checker": False,
    }
    path = model_path(base)
    if path.is_file():
        pipe = kind.from_single_file(str(path), **options)
    elif not path.is_dir() and not may_be_on_the_hub(base):
        raise FileNotFoundError(f"base model {base}: no such file or folder")
    else:
        # what diffusers falls back to without accelerate, said here to spare its warning
        options["low_cpu_mem_usage"] = is_accelerate_available()
        pipe = kind.from_pretrained(str(path) if path.is_dir() else base, **options)
    # the original's, whatever the base came with: AdaFaceWrapper in adaface_wrapper.py
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(where)


def grid(pictures: Sequence[Sequence[Image.Image]], columns: int = COLUMNS) -> Image.Image:
    """One row per prompt, or several where it has more pictures than `columns`; all pictures of one size."""
    width, height = pictures[0][0].size
    columns = min(columns, max(map(len, pictures)))
    rows = [row[start : start + columns] for row in pictures for start in range(0, len(row), columns)]
    sheet = Image.new("RGB", (columns * width, len(rows) * height), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * width, y * height))
    return sheet


def _draw(
    pipe: Any,
    settings: GenerateSettings,
    states: dict[str, torch.Tensor],
    seeds: Sequence[int],
    init: Image.Image | None,
    say: Callable[[str], None],
) -> list[list[Image.Image]]:
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    arguments: dict[str, Any] = {"num_inference_steps": settings.steps, "eta": 0.0}
    if init is not None:
        arguments |= {
            "image": ImageOps.fit(init, (side, side), Image.Resampling.LANCZOS),
            "strength": settings.strength,
        }
    else:
        arguments |= {"height": side, "width": side}
    start, end = settings.guidance
    arguments |= annealed_guidance(start, end) if start != end else {"guidance_scale": start}
    jobs = [(row, seed) for row in range(len(settings.prompts)) for seed in seeds]
    pictures: list[list[Image.Image]] = [[] for _ in settings.prompts]
    anneal = arguments.pop("callback_on_step_end", None)
    for first in range(0, len(jobs), settings.batch):
        part = jobs[first : first + settings.batch]

        def after_step(pipe: Any, step: int, timestep: Any, tensors: Any, done: int = first + len(part)) -> dict:
            say(f"images {done} of {len(jobs)}, step {step + 1} of {pipe.num_timesteps}")
            return anneal(pipe, step, timestep, tensors) if anneal else {}

        drawn = pipe(
            **{name: rows[[row for row, _ in part]] for name, rows in states.items()},
            **arguments,
            # drawn on the CPU, one by one: the same noise on every device and in every batch
            generator=[torch.Generator().manual_seed(seed) for _, seed in part],
            callback_on_step_end=after_step,
        ).images
        for (row, _), picture in zip(part, drawn, strict=True):
            pictures[row].append(picture)
    return pictures


def _write(out: Path, pictures: list[list[Image.Image]], names: list[list[str]], record: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.{os.getpid()}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "images").mkdir(parents=True)
    try:
        for row, files in zip(pictures, names, strict=True):
            for picture, file in zip(row, files, strict=True):
                picture.save(fresh / file)
        grid(pictures).save(fresh / "grid.png")
        (fresh / "settings.json").write_text(json.dumps(record, indent=2, default=list) + "\n", encoding="utf-8")
        os.replace(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _read_init(file: str | None) -> Image.Image | None:
    if file is None:
        return None
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"--init {path}: no such file")
    try:
        return Image.fromarray(read_photo(path))
    except ValueError as error:
        raise ValueError(f"--init {path}: {error}") from error


def _sha256(file: Path) -> str:
    import hashlib

    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    import diffusers
    import transformers

    return {
        "adaface": __version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }


def _to_stderr(line: str) -> None:
    """One line that changes on a terminal; elsewhere only the last step of each batch, on a line of its own."""
    head, _, steps = line.partition(", step ")
    number, _, of = steps.partition(" of ")
    if sys.stderr.isatty():
        print(f"\r{line:<40}", end="\n" if number == of else "", file=sys.stderr, flush=True)
    elif number == of:
        print(head, file=sys.stderr)
