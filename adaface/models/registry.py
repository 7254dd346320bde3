"""Every model that the project uses: where it comes from, its files, its licence, and where it is kept.

Two worlds: `sd15`, whose models are downloaded, and `miniature`, whose models are shipped in the package. Sizes and
sha256 are those that the hub records for the files; several independent projects publish the same ones. None: not
known. `adaface models` then trusts the hash that the hub gives at the download, and remembers it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adaface.model_path import model_path

World = Literal["sd15", "miniature"]
SHIPPED = "package://adaface.miniature/weights"


@dataclass(frozen=True)
class ModelFile:
    """A file of an artefact. `path` is inside the artefact's folder, `remote` inside the repository, "" where equal.

    `or_path`: a file that serves as well; repositories differ in what they hold.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None
    remote: str = ""
    or_path: str = ""


@dataclass(frozen=True)
class HubSource:
    """Files of one repository of the Hugging Face hub."""

    repo: str
    files: tuple[ModelFile, ...]
    revision: str = "main"

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}"


@dataclass(frozen=True)
class Artefact:
    """Something the project needs. `folder` is below the models folder, or a package:// path for what is shipped."""

    name: str
    world: World
    purpose: str
    licence: str
    folder: str
    sources: tuple[HubSource, ...] = ()
    shipped: tuple[ModelFile, ...] = ()
    by_hand: str = ""  # what to do where it is missing and cannot be downloaded

    @property
    def files(self) -> tuple[ModelFile, ...]:
        return self.shipped + tuple(file for source in self.sources for file in source.files)

    def path_of(self, file: ModelFile) -> str:
        """The file's path below the models folder; a package:// path for what is shipped."""
        return f"{self.folder}/{file.path}" if self.folder else file.path


_RAIL = "CreativeML OpenRAIL-M"
_RESEARCH = "non-commercial research only (InsightFace model zoo)"
_CLIP_TOKENIZER = tuple(
    ModelFile(name) for name in ("tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json")
)
# what from_single_file(..., config=FOLDER) reads without a network
_SD15_CONFIGS = tuple(
    ModelFile(f"{folder}{name}")
    for folder, names in {
        "": ("model_index.json",),
        "feature_extractor/": ("preprocessor_config.json",),
        "scheduler/": ("scheduler_config.json",),
        "text_encoder/": ("config.json",),
        "tokenizer/": ("tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
        "unet/": ("config.json",),
        "vae/": ("config.json",),
    }.items()
    for name in names
)

SD15 = (
    Artefact(
        name="sd15",
        world="sd15",
        purpose="Stable Diffusion 1.5, the base of `adaface compose-base`; the weights without EMA, as in the original",
        licence=_RAIL,
        folder="sd15",
        sources=(
            HubSource(
                "stable-diffusion-v1-5/stable-diffusion-v1-5",
                (
                    ModelFile(
                        "v1-5-pruned.safetensors",
                        "1a189f0be69d6106a48548e7626207dddd7042a418dbf372cefd05e0cdba61b6",
                        7_703_324_286,
                    ),
                    *_SD15_CONFIGS,
                ),
            ),
        ),
    ),
    Artefact(
        name="mse-vae",
        world="sd15",
        purpose="the VAE ft-mse-840000, put into the base",
        licence="MIT",
        folder="sd-vae-ft-mse",
        sources=(
            HubSource(
                "stabilityai/sd-vae-ft-mse-original",
                (
                    ModelFile(
                        "vae-ft-mse-840000-ema-pruned.safetensors",
                        "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
                        334_641_190,
                    ),
                ),
            ),
        ),
    ),
    Artefact(
        name="dreamshaper",
        world="sd15",
        purpose="DreamShaper 8, whose text encoder is put into the base",
        licence=f"{_RAIL} with an addendum of its author",
        folder="dreamshaper",
        sources=(
            HubSource(
                "Lykon/DreamShaper",
                (
                    ModelFile(
                        "DreamShaper_8_pruned.safetensors",
                        "879db523c30d3b9017143d56705015e15a2cb5628762c11d086fed9538abd7fd",
                        2_132_625_894,
                    ),
                ),
            ),
        ),
    ),
    Artefact(
        name="arc2face-encoder",
        world="sd15",
        purpose="the teacher's text encoder, and the start of the inverse encoder's teacher path",
        licence=f"MIT (weights); fine-tuned from SD 1.5: {_RAIL}",
        folder="arc2face",
        sources=(
            HubSource(
                "FoivosPar/Arc2Face",
                (
                    ModelFile("encoder/config.json"),
                    ModelFile("encoder/pytorch_model.bin", or_path="encoder/model.safetensors"),
                ),
            ),
        ),
    ),
    Artefact(
        name="arc2face-unet",
        world="sd15",
        purpose="the teacher's UNet, for distillation",
        licence=f"MIT (weights); fine-tuned from SD 1.5: {_RAIL}",
        folder="arc2face",
        sources=(
            HubSource(
                "FoivosPar/Arc2Face",
                (ModelFile("arc2face/config.json"), ModelFile("arc2face/diffusion_pytorch_model.safetensors")),
            ),
        ),
    ),
    Artefact(
        name="antelopev2",
        world="sd15",
        purpose="face detector, attributes and Arc2Face's recogniser, the only one whose embeddings the teacher understands",
        licence=f"{_RESEARCH}; arcface.onnx: MIT, trained on WebFace42M",
        folder="antelopev2",
        sources=(
            HubSource(
                "DIAMONIK7777/antelopev2",
                (
                    ModelFile(
                        "scrfd_10g_bnkps.onnx",
                        "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
                        16_923_827,
                    ),
                    ModelFile(
                        "genderage.onnx", "4fde69b1c810857b88c64a335084f1c3fe8f01246c9a191b48c7bb756d6652fb", 1_322_532
                    ),
                    ModelFile(
                        "2d106det.onnx", "f001b856447c413801ef5c42091ed0cd516fcd21f2d6b79635b1e733a7109dbf", 5_030_888
                    ),
                    ModelFile("1k3d68.onnx", "df5c06b8a0c12e422b2ed8947b8869faa4105387f199c477af038aa01f9a45cc"),
                ),
            ),
            HubSource("FoivosPar/Arc2Face", (ModelFile("arcface.onnx"),)),
        ),
        by_hand="unpack antelopev2.zip of the InsightFace releases (github.com/deepinsight/insightface, v0.7) there, and put "
        "arcface.onnx of FoivosPar/Arc2Face in the place of glintr100.onnx",
    ),
    Artefact(
        name="bisenet",
        world="sd15",
        purpose="face parsing: 19 classes at 512 px",
        licence="MIT (zllrunning/face-parsing.PyTorch); trained on CelebAMask-HQ, non-commercial research",
        folder="",
        sources=(
            HubSource(
                "ManyOtherFunctions/face-parse-bisent",
                (
                    ModelFile(
                        "79999_iter.pth",
                        "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
                        53_289_463,
                    ),
                ),
            ),
        ),
        by_hand="take 79999_iter.pth from the link in the README of github.com/zllrunning/face-parsing.PyTorch",
    ),
    Artefact(
        name="clip-l",
        world="sd15",
        purpose="CLIP ViT-L/14, text and vision: start of the inverse encoder, image features, evaluation",
        licence="MIT (openai/CLIP); its model card advises against deployment",
        folder="clip-vit-large-patch14",
        sources=(
            HubSource(
                "openai/clip-vit-large-patch14",
                (
                    ModelFile("config.json"),
                    ModelFile("model.safetensors"),
                    ModelFile("preprocessor_config.json"),
                    *_CLIP_TOKENIZER,
                ),
            ),
        ),
    ),
    Artefact(
        name="dino",
        world="sd15",
        purpose="DINO ViT-S/16, for the image similarity of the evaluation",
        licence="Apache-2.0",
        folder="dino-vits16",
        sources=(
            HubSource(
                "facebook/dino-vits16",
                (
                    ModelFile("config.json"),
                    ModelFile("preprocessor_config.json"),
                    ModelFile("pytorch_model.bin", or_path="model.safetensors"),
                ),
            ),
        ),
    ),
)

_SHIPPED_MODELS = {
    "pack": ("detector, recogniser and attributes of drawn faces", ("detector.onnx", "recogniser.onnx", "attributes.onnx")),
    "judge": ("a second recogniser, for the evaluation", ("recogniser.onnx",)),
    "parser": ("face parsing of drawn faces", ("bisenet.safetensors",)),
    "encoder": ("an AdaFace encoder, distilled from the teacher", ("README.md", "adaface.safetensors", "config.json")),
    "factors": ("classifier of what is drawn, for the evaluation", ("classifier.safetensors",)),
    "clip": ("text and image encoder", ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")),
    "sd": (
        "the diffusion model: UNet, VAE, text encoder",
        (
            "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors", "text_encoder/config.json", "text_encoder/model.safetensors",
        ),
    ),
    "teacher": (
        "the teacher: UNet and text encoder",
        (
            "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "text_encoder/config.json",
            "text_encoder/model.safetensors",
        ),
    ),
}  # fmt: skip


def registry() -> dict[str, Artefact]:
    """All artefacts by name; those of the miniature with the hashes of its manifest, where it is finished."""
    return {artefact.name: artefact for artefact in (*SD15, *_miniature())}


def chosen(names: Sequence[str], *, downloadable: bool = False) -> list[Artefact]:
    """The artefacts of these names, all for none or for `all`; ValueError for names that are not known."""
    known = registry()
    if unknown := [name for name in names if name not in known and name != "all"]:
        raise ValueError(f"no model is called {', '.join(unknown)}; there are {', '.join(known)}")
    everything = not names or "all" in names
    return [
        artefact
        for name, artefact in known.items()
        if name in names or (everything and (artefact.sources or not downloadable))
    ]


def _miniature() -> list[Artefact]:
    manifest = model_path(f"{SHIPPED}/manifest.json")
    recorded = json.loads(manifest.read_text(encoding="utf-8"))["files"] if manifest.is_file() else {}
    artefacts = []
    for folder, (purpose, expected) in _SHIPPED_MODELS.items():
        inside = [name.removeprefix(f"{folder}/") for name in recorded if name.startswith(f"{folder}/")]
        if recorded and not inside:
            continue  # the package comes without it
        entries = {name: recorded.get(f"{folder}/{name}", {}) for name in sorted(inside or expected)}
        files = [ModelFile(name, entry.get("sha256"), entry.get("bytes")) for name, entry in entries.items()]
        artefacts.append(
            Artefact(
                name=f"miniature-{folder}",
                world="miniature",
                purpose=purpose,
                licence="MIT (this project)",
                folder=f"{SHIPPED}/{folder}",
                shipped=tuple(files),
                by_hand="install the package anew, or train the models: python -m adaface.miniature.train",
            )
        )
    return artefacts
