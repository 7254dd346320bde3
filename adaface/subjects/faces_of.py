"""Photos of one person -> that person's ID embedding. Never a random face: a photo that leaves a doubt is an error."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from adaface.encoder.noise import add_noise

if TYPE_CHECKING:
    from adaface.perception.faces import FaceAnalyser, FaceResult

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MASK_ENDING = "_mask.png"  # beside photos, in the original's data sets
# A second face of this share of the first one's area makes it a guess whose the photo is.
ALMOST_AS_LARGE = 0.8

Photo = str | os.PathLike[str] | Image.Image | np.ndarray


def open_faces(pack: str) -> FaceAnalyser:
    """The face detector and recogniser of an insightface model pack: a path, or `package://PACKAGE/FOLDER`.

    Raises:
        ValueError, FileNotFoundError: for no pack, and for one that cannot be used.
        ModuleNotFoundError: where insightface or what it runs on is not installed.
    """
    if not pack:
        raise ValueError(
            "no face pack is known, so faces cannot be read from images; pass face_pack= (the folder of the insightface "
            "model pack that the encoder was trained with), or ID embeddings with ids="
        )
    try:
        import_module("insightface")  # now, for the message: the analyser imports it late
        from adaface.perception.config import PerceptionConfig
        from adaface.perception.faces import FaceAnalyser

        return FaceAnalyser(PerceptionConfig(pack=pack, attributes=False))
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the package {error.name} is missing, so faces cannot be read from images; install the extra "
            "`pipeline` (pip install 'adaface[pipeline]'), or pass ID embeddings with ids=",
            name=error.name,
        ) from error


def list_photos(sources: Photo | Iterable[Photo]) -> list[tuple[str, Photo]]:
    """(name, photo) of each picture; folders are replaced by the image files in them, sorted by name.

    Files that end in `_mask.png` are left out wherever they come from.

    Raises ValueError for paths that do not exist and folders without photos (all of them), and when nothing is left.
    """
    single = isinstance(sources, (str, os.PathLike, Image.Image, np.ndarray))
    given: Sequence[Photo] = [sources] if single else list(sources)  # type: ignore[list-item, arg-type]
    found: list[tuple[str, Photo]] = []
    problems = []
    for number, source in enumerate(given, start=1):
        if isinstance(source, (Image.Image, np.ndarray)):
            found.append((f"image {number}", source))
            continue
        path = Path(source).expanduser()
        if path.is_dir():
            inside = [file for file in sorted(path.iterdir()) if file.suffix.lower() in EXTENSIONS and file.is_file()]
            inside = [file for file in inside if not _is_mask(file)]
            if not inside:
                folders = sum(entry.is_dir() for entry in path.iterdir())
                hint = f"; name one of the {folders} folders in it" if folders else ""
                problems.append(f"{path}: no photos in this folder ({', '.join(EXTENSIONS)}){hint}")
            found += [(str(file), file) for file in inside]
        elif not path.exists():
            problems.append(f"{path}: no such file or folder")
        elif not _is_mask(path):
            found.append((str(path), path))
    if not found and not problems:
        problems.append(f"no photos: {'only mask files' if given else 'the list of images is empty'}")
    _raise(problems)
    return found


def read_photo(photo: Photo) -> np.ndarray:
    """RGB uint8 (H, W, 3), turned as its EXIF orientation says; transparent pixels become white.

    Raises ValueError for what is not a picture, saying what is wrong with it.
    """
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim not in (2, 3) or (photo.ndim == 3 and photo.shape[2] not in (3, 4)):
            raise ValueError(f"an array must be uint8 (H, W, 3) RGB, not {photo.dtype} {photo.shape}")
        return np.asarray(_rgb(Image.fromarray(photo)))
    if isinstance(photo, Image.Image):
        return np.asarray(_rgb(ImageOps.exif_transpose(photo)))
    try:
        with Image.open(photo, formats=FORMATS) as image:
            return np.asarray(_rgb(ImageOps.exif_transpose(image)))
    except UnidentifiedImageError as error:
        raise ValueError("not an image that can be read") from error
    # what PIL's decoders raise for damaged files
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read: {error}") from error


def face_ids(sources: Photo | Iterable[Photo], faces: FaceAnalyser) -> Tensor:
    """The unit ID embedding of each photo's largest face, float32 (N, id_dim), on the CPU.

    Raises ValueError naming every photo that cannot be read, shows no face, or shows two about equally large ones.
    """
    photos = list_photos(sources)
    pixels, names, problems = [], [], []
    for name, photo in photos:
        try:
            pixels.append(read_photo(photo))
            names.append(name)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    results = faces.analyse(pixels)
    for name, result in zip(names, results, strict=True):
        if doubt := _doubt(result):
            problems.append(f"{name}: {doubt}")
    _raise(problems)
    rows = [result.embedding for result in results if result.embedding is not None]
    return torch.from_numpy(np.stack(rows)).float()


def mean_id(ids: Tensor, *, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """One person from N ID embeddings, as the original: the mean of the unit embeddings, with noise, of unit length.

    Args:
        ids: (N, id_dim) or (id_dim,), of any length and dtype.
        noise: in units of the spread of the mean's values; the authors found 0.06 mostly safe and 0.08 able to change
            the gender.

    Returns:
        float32 (id_dim,) on the CPU.

    Raises ValueError for a wrong shape, values that are not finite, and a mean of length 0.
    """
    if ids.ndim not in (1, 2) or not ids.numel():
        raise ValueError(f"ID embeddings must be (N, id_dim) or (id_dim,), not {tuple(ids.shape)}")
    rows = ids.detach().to("cpu", torch.float32).reshape(-1, ids.shape[-1])
    mean = F.normalize(rows, dim=-1).mean(dim=0, keepdim=True)
    if not mean.isfinite().all() or mean.norm() < 1e-6:
        raise ValueError("the ID embeddings are zero, not finite, or cancel out")
    return F.normalize(add_noise(mean, noise, keep_norm=True, generator=generator), dim=-1)[0]


def check_faces(faces: FaceAnalyser, id_dim: int, pack: str) -> None:
    """Raises ValueError where the recogniser's embeddings are not of the length that the encoder reads."""
    if faces.id_dim != id_dim:
        raise ValueError(
            f"the recogniser of {pack} gives embeddings of {faces.id_dim} values, the encoder reads {id_dim}; "
            "pass the face pack that the encoder was trained with"
        )


def _doubt(result: FaceResult) -> str | None:
    if result.embedding is None:
        return "no face found"
    first, *others = (face.area for face in result.faces)
    equals = 1 + sum(area >= ALMOST_AS_LARGE * first for area in others)
    if equals > 1:
        sizes = ", ".join(f"{area**0.5:.0f} px" for area in (first, *others)[:equals])
        return f"{equals} faces of about the same size ({sizes}); crop the photo to one person"
    return None


def _is_mask(path: Path) -> bool:
    return path.name.lower().endswith(MASK_ENDING)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, which PIL would clip at 255
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _raise(problems: Sequence[Any]) -> None:
    if problems:
        raise ValueError("\n".join(problems))
