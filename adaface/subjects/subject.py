"""A person in any Stable Diffusion 1.5 pipeline of diffusers, in one line.

    subject = load_adaface(pipe, "path/or/hub-id").subject(images=["anna/"])
    pipe(**subject.prompt("z riding a horse, oil painting"), guidance_scale=6).images

Nothing of the pipeline changes: its prompts are encoded here, with the person's sixteen vectors in the place of `z`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from adaface.encoder.model import AdaFaceEncoder
from adaface.subjects.faces_of import Photo, check_faces, face_ids, mean_id, open_faces
from adaface.subjects.prompt_states import ORIGINAL_NEGATIVE, prompt_states
from adaface.subjects.prompt_tokens import LongPrompts
from adaface.subjects.textual_inversion import Installed, inversion_name, save_inversion

if TYPE_CHECKING:
    from adaface.perception.faces import FaceAnalyser

_SYNTAX = set("()[]:\\")  # of prompt weights


def load_adaface(
    pipe: Any,
    encoder: str | Path | AdaFaceEncoder,
    *,
    face_pack: str | None = None,
    dtype: torch.dtype | None = None,
) -> AdaFace:
    """An encoder for a pipeline.

    Args:
        pipe: a diffusers pipeline with Stable Diffusion 1.5's text encoder: text-to-image, image-to-image, inpainting,
            ControlNet, AnimateDiff, ...
        encoder: a folder of `AdaFaceEncoder.save_pretrained`, `package://PACKAGE/PATH`, a hub id, or an encoder.
        face_pack: insightface model pack that reads faces from images; the encoder's own by default.
        dtype: the encoder computes in, float32 by default. The pipeline's is followed in what it is given.

    Raises ValueError for a pipeline or encoder that do not fit, FileNotFoundError for what is not there.
    """
    _check_pipe(pipe)
    if not isinstance(encoder, AdaFaceEncoder):
        encoder = AdaFaceEncoder.from_pretrained(encoder, dtype=dtype, device=pipe._execution_device)
    elif dtype is not None:
        raise ValueError("dtype= is for an encoder that is loaded here; this one has its own")
    width = pipe.text_encoder.config.hidden_size
    if encoder.config.width != width:
        raise ValueError(
            f"the encoder makes vectors of {encoder.config.width} values, and the pipeline's text encoder reads {width}; "
            "an encoder works with the kind of pipeline it was trained for"
        )
    return AdaFace(pipe, encoder, encoder.config.face_pack if face_pack is None else str(face_pack))


class AdaFace:
    """A pipeline and an encoder; makes subjects. From `load_adaface`."""

    def __init__(self, pipe: Any, encoder: AdaFaceEncoder, face_pack: str):
        self.pipe, self.encoder, self.face_pack = pipe, encoder, face_pack
        self._faces: FaceAnalyser | None = None
        self._installed = Installed(pipe)

    def subject(
        self,
        *,
        images: Photo | Iterable[Photo] | None = None,
        ids: Tensor | np.ndarray | None = None,
        token: str = "z",
        id_scale: float = 1.0,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Subject:
        """One person, from photos or from ID embeddings; the encoder runs here, once.

        Args:
            images: photos of the person, files, folders, PIL images or RGB arrays; more photos, steadier face.
            ids: instead, the ID embeddings (N, id_dim) of N photos, or one (id_dim,).
            token: the word that stands for the person in prompts.
            id_scale: over 1 exaggerates what sets the person apart; the original's app has 4.
            noise: on the ID embedding, for variety; the authors call 0.06 mostly safe.
            generator: of the noise.

        Raises ValueError for what cannot be used, with all doubtful photos named.
        """
        if images is not None and ids is None:
            source: Tensor | Photo | Iterable[Photo] = images
        elif ids is not None and images is None:
            source = torch.as_tensor(ids)  # an array of IDs is no picture
        else:
            raise ValueError("a subject is made from images= or from ids=: give one of them")
        return self.subjects({token: source}, id_scale=id_scale, noise=noise, generator=generator)[token]

    def subjects(
        self,
        people: Mapping[str, Tensor | Photo | Iterable[Photo]],
        *,
        id_scale: float = 1.0,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Subjects:
        """Several people for one prompt: {token: photos or ID embeddings}; the encoder runs once for all."""
        problems = [problem for token in people for problem in _token_problems(token)]
        if not people:
            problems.append("there is nobody in subjects({})")
        if problems:
            raise ValueError("\n".join(problems))
        identities, wrong = {}, []
        for token, source in people.items():
            try:
                rows = source if isinstance(source, Tensor) else self._ids_of(source)
                identities[token] = mean_id(rows, noise=noise, generator=generator)
                if len(identities[token]) != self.encoder.config.id_dim:
                    raise ValueError(
                        f"ID embeddings have {len(identities[token])} values, the encoder reads "
                        f"{self.encoder.config.id_dim}"
                    )
            except ValueError as error:
                wrong.append(f"{token}: {error}" if len(people) > 1 else str(error))
        if wrong:
            raise ValueError("\n".join(wrong))
        with torch.no_grad():
            vectors = self.encoder(torch.stack(list(identities.values())), id_scale=id_scale)
        return Subjects(
            self,
            {
                token: Subject(self, token, identities[token], rows)
                for token, rows in zip(people, vectors, strict=True)
            },
        )

    def unload(self) -> None:
        """Take out of the pipeline what `install` put into it; it is then as it was, every byte of it."""
        self._installed.remove()

    def _ids_of(self, source: Photo | Iterable[Photo]) -> Tensor:
        if self._faces is None:
            faces = open_faces(self.face_pack)
            check_faces(faces, self.encoder.config.id_dim, self.face_pack)
            self._faces = faces
        return face_ids(source, self._faces)


class Subjects:
    """People for one prompt, each with a token. A mapping of token to `Subject`; from `AdaFace.subjects`."""

    def __init__(self, adaface: AdaFace, people: dict[str, Subject]):
        self.adaface, self._people = adaface, people

    def __getitem__(self, token: str) -> Subject:
        return self._people[token]

    def __iter__(self) -> Iterator[str]:
        return iter(self._people)

    def __len__(self) -> int:
        return len(self._people)

    def prompt(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | Sequence[str] | None = ORIGINAL_NEGATIVE,
        images_per_prompt: int = 1,
        clip_skip: int | None = None,
        layer_weights: Sequence[float] | None = None,
        long_prompts: LongPrompts = "refuse",
        lora_scale: float | None = None,
    ) -> dict[str, Tensor]:
        """What the pipeline takes instead of `prompt` and `negative_prompt`: `pipe(**subjects.prompt("z and y"))`.

        A token is found as a whole word, case-sensitive, everywhere in a prompt; a prompt without any of them has all
        people put in front, one with some of them has those. The arguments are those of `prompt_states`.
        """
        return prompt_states(
            self.adaface.pipe,
            prompt,
            {token: person.vectors for token, person in self._people.items()},
            negative_prompt=negative_prompt,
            images_per_prompt=images_per_prompt,
            clip_skip=clip_skip,
            layer_weights=layer_weights,
            long_prompts=long_prompts,
            lora_scale=lora_scale,
        )

    def install(self) -> list[str]:
        """`Subject.install` of everyone; the names in order."""
        names = {inversion_name(token): person.vectors for token, person in self._people.items()}
        self.adaface._installed.add(names)
        return list(names)


class Subject:
    """One person. From `AdaFace.subject`.

    Attributes: `token`, `identity` (id_dim,) the ID embedding of unit length, `vectors` (16, D) token embeddings.
    """

    def __init__(self, adaface: AdaFace, token: str, identity: Tensor, vectors: Tensor):
        self.adaface, self.token, self.identity, self.vectors = adaface, token, identity, vectors

    def prompt(self, prompt: str | Sequence[str], **settings: Any) -> dict[str, Tensor]:
        """What the pipeline takes instead of `prompt` and `negative_prompt`; see `Subjects.prompt`."""
        return Subjects(self.adaface, {self.token: self}).prompt(prompt, **settings)

    def install(self, name: str | None = None) -> str:
        """Put the person into the pipeline as a textual inversion, for plain prompts: `pipe("<z> riding a horse")`.

        Returns the name to write in prompts, `<token>` by default. `AdaFace.unload` takes it out again.
        """
        name = name or inversion_name(self.token)
        self.adaface._installed.add({name: self.vectors})
        return name

    def save(self, file: str | Path, name: str | None = None) -> Path:
        """Write a textual-inversion .safetensors that `pipe.load_textual_inversion`, A1111 and ComfyUI read."""
        return save_inversion(file, name or inversion_name(self.token), self.vectors)


def _token_problems(token: str) -> list[str]:
    if not token or any(letter.isspace() or letter in _SYNTAX for letter in token):
        return [f"a subject's token must be one word without brackets, colons and backslashes, not {token!r}"]
    return []


def _check_pipe(pipe: Any) -> None:
    kind = type(pipe).__name__
    parts = [getattr(pipe, name, None) for name in ("tokenizer", "text_encoder")]
    if any(part is None for part in parts):
        raise ValueError(f"{kind} has no tokenizer and text encoder to put a subject into")
    text = pipe.text_encoder
    several = getattr(pipe, "text_encoder_2", None) is not None
    if several or not hasattr(text, "final_layer_norm") or getattr(text.config, "use_attention_mask", False):
        raise ValueError(
            f"{kind} with {type(text).__name__} is not of Stable Diffusion 1.5's kind: one CLIP text model whose states "
            "are used without a padding mask"
        )
