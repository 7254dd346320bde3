"""One subject prompt through five kinds of pipeline, as a picture.

    python -m adaface.miniature.measure.pipelines --encoder DIR --out FILE.jpg

A row for each person: the photograph, then text-to-image, image-to-image from somebody else's photograph, inpainting of
the face in it, ControlNet, and four frames of AnimateDiff. The miniature world has no trained ControlNet and motion
module: both are fresh ones, which leave the UNet as it is, so that the pictures show the path of the prompt alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import (
    AnimateDiffPipeline,
    ControlNetModel,
    MotionAdapter,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image

from adaface import load_adaface
from adaface.miniature.measure.generators import people_and_photos
from adaface.miniature.networks.diffusion import load_sd
from adaface.miniature.pictures.portraits import SIZE
from adaface.miniature.render import grid
from adaface.miniature.shipped import WEIGHTS
from adaface.model_path import model_path

PEOPLE, FRAMES, SEED = 6, 4, 3
PROMPT = "a photo of a z wearing a red shirt on the beach"
_ENLARGED = 2
Arguments = dict[str, Any]


def _text_to_image(parts: Arguments, photo: Image.Image) -> tuple[Any, Arguments]:
    return StableDiffusionPipeline(**parts, requires_safety_checker=False), {}


def _image_to_image(parts: Arguments, photo: Image.Image) -> tuple[Any, Arguments]:
    pipe = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    return pipe, {"image": photo, "strength": 0.8}


def _inpainting(parts: Arguments, photo: Image.Image) -> tuple[Any, Arguments]:
    mask = Image.new("L", photo.size, 0)
    mask.paste(255, (8, 4, 56, 64))
    pipe = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    return pipe, {"image": photo, "mask_image": mask, "strength": 1.0}


def _controlnet(parts: Arguments, photo: Image.Image) -> tuple[Any, Arguments]:
    controlnet = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(16, 32, 64)).eval()
    pipe = StableDiffusionControlNetPipeline(**parts, controlnet=controlnet, requires_safety_checker=False)
    return pipe, {"image": photo}


def _animatediff(parts: Arguments, photo: Image.Image) -> tuple[Any, Arguments]:
    unet = parts["unet"].config
    adapter = MotionAdapter(
        block_out_channels=tuple(unet.block_out_channels),
        motion_layers_per_block=unet.layers_per_block,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=unet.norm_num_groups,
    )
    taken = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    return AnimateDiffPipeline(**{name: parts[name] for name in taken}, motion_adapter=adapter), {"num_frames": FRAMES}


KINDS: dict[str, Callable[[Arguments, Image.Image], tuple[Any, Arguments]]] = {
    "text-to-image": _text_to_image,
    "image-to-image": _image_to_image,
    "inpainting": _inpainting,
    "ControlNet": _controlnet,
    "AnimateDiff": _animatediff,
}


def draw(encoder: str, weights: Path = WEIGHTS, *, people: int = PEOPLE) -> np.ndarray:
    """uint8 (people * 2 * 64, 9 * 2 * 64, 3), without the thin lines between: a row for each person."""
    torch.manual_seed(SEED)
    parts = load_sd(weights).components | {"safety_checker": None, "feature_extractor": None}
    _, photos = people_and_photos(people + 1, 1)
    rows: list[np.ndarray] = []
    for number in range(people):
        photo, other = photos[number, 0], Image.fromarray(photos[number + 1, 0])
        rows.append(photo)
        rows.append(np.asarray(other))
        for make in KINDS.values():
            pipe, arguments = make(parts, other)
            pipe.set_progress_bar_config(disable=True)
            subject = load_adaface(pipe, encoder, face_pack=str(weights / "pack")).subject(images=[photo])
            size = {} if make is _image_to_image else {"height": SIZE, "width": SIZE}
            drawn = pipe(
                **subject.prompt(PROMPT, negative_prompt=""),
                **arguments,
                **size,
                guidance_scale=4.0,
                num_inference_steps=25,
                generator=torch.Generator().manual_seed(SEED),
            )
            images = drawn.frames[0] if hasattr(drawn, "frames") else drawn.images
            rows += [np.asarray(image) for image in images]
    sheet = grid(rows, len(rows) // people)
    return cv2.resize(sheet, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_NEAREST)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m adaface.miniature.measure.pipelines", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--encoder", required=True, metavar="DIR", help="encoder: folder, package://... or hub id")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the picture to write")
    given = parser.parse_args(arguments)
    try:
        sheet = draw(str(model_path(given.encoder)))
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(given.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90]):
        print(f"{given.out} cannot be written", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
