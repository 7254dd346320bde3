"""The interface of a method, and the base model that several methods of one process draw with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from adaface.evaluation.methods.model_files import hashes_below, local_folder
from adaface.model_path import model_path
from adaface.models.device import chosen_device
from adaface.subjects.generate import load_base
from adaface.subjects.prompt_states import prompt_states

if TYPE_CHECKING:
    from adaface.evaluation.config import GenerationConfig
    from adaface.evaluation.prompts import Prompt
    from adaface.evaluation.subjects import Subject


@dataclass(frozen=True)
class Request:
    """One picture that is asked for.

    Attributes:
        prompt: with `{}` for the subject.
        class_word: what the prompt says for the subject where a method knows no face, e.g. "young woman".
        seed: of the picture's noise, 0 .. 2**63 - 1.
    """

    prompt: Prompt
    class_word: str
    seed: int


class Method(Protocol):
    """What draws people. One object per process; it is asked for one batch after the other."""

    name: str

    def prepare(self, subject: Subject, photos: list[np.ndarray], ids: np.ndarray) -> Any:
        """What `draw` needs to know of a subject; called once for it.

        Args:
            subject: whose pictures will be asked for.
            photos: those that a method may see, RGB uint8 (H, W, 3) each.
            ids: (N, id_dim) float32 ID embeddings by the first recogniser, unit rows; rows of zeros for photos in which
                no face was found.
        """

    def draw(self, prepared: Any, requests: Sequence[Request]) -> list[np.ndarray]:
        """One picture per request, RGB uint8 (H, W, 3), that depends on subject, prompt and seed alone."""

    def provenance(self) -> dict[str, Any]:
        """What draws, for reports and for telling whether it has changed: settings, files and their sha256."""


@dataclass
class Person:
    """A subject in a base model's prompts.

    Attributes:
        vectors: {token: (K, D)} token embeddings; none where the class word stands for the person.
        states: {prompt: (T, D)} of the prompts so far.
    """

    vectors: dict[str, Tensor] = field(default_factory=dict)
    states: dict[str, Tensor] = field(default_factory=dict)


class BasePipe:
    """A base model with the protocol's sampler. From `BasePipe.shared`; not for two threads at once."""

    _in_use: ClassVar[WeakValueDictionary[tuple[str, str, str], BasePipe]] = WeakValueDictionary()

    def __init__(self, base: str, device: str, precision: str):
        self.base = base
        self.pipe = load_base(base, device=device, dtype=getattr(torch, precision))

    @classmethod
    def shared(cls, base: str, device: str = "auto", precision: str = "float32") -> BasePipe:
        """The one of this process, loaded when nobody has it; it goes when the last method that holds it goes.

        `precision` is not taken from the device: pictures of one run come from machines with and without a GPU.

        Raises FileNotFoundError for a path that does not exist, ValueError for a device that is not there.
        """
        device = str(chosen_device(device, "generation.device"))
        key = (str(model_path(base)), device, precision)
        found = cls._in_use.get(key)
        if found is None:
            found = cls._in_use[key] = cls(base, device, precision)
        return found

    def negative(self, generation: GenerationConfig) -> Tensor:
        """(T, D) text states of the protocol's negative prompt."""
        return self._encode(generation, "", {})["negative_prompt_embeds"][0]

    def states(self, generation: GenerationConfig, person: Person, prompt: str) -> Tensor:
        """(T, D) text states of a prompt about a person, computed when it is first asked for.

        Alone, so that they do not depend on which prompts came with it. Raises ValueError for one that is too long.
        """
        if prompt not in person.states:
            person.states[prompt] = self._encode(generation, prompt, person.vectors)["prompt_embeds"][0]
        return person.states[prompt]

    def _encode(self, generation: GenerationConfig, prompt: str, vectors: dict[str, Tensor]) -> dict[str, Tensor]:
        return prompt_states(
            self.pipe,
            prompt,
            vectors,
            negative_prompt=generation.negative_prompt,
            layer_weights=generation.clip_skip_weights,
        )

    def files(self) -> dict[str, str]:
        """{file: sha256} of what was loaded; empty for what cannot be found on this machine any more."""
        from adaface.perception.pack import sha256

        place = local_folder(self.base)
        if place is None:
            return {}
        if place.is_file():
            return {place.name: sha256(place)}
        return hashes_below(place, [name for name, part in self.pipe.components.items() if part is not None])


def known_ids(subject: str, ids: np.ndarray) -> Tensor:
    """float32 (M, id_dim), the rows of photos that show a face. Raises ValueError where there is none."""
    rows = torch.from_numpy(np.array(ids, dtype=np.float32))  # a copy: rows of a Ray block are read-only
    rows = rows[rows.norm(dim=-1) > 0] if rows.ndim == 2 else rows[:0]
    if not len(rows):
        raise ValueError(f"subject {subject}: there is no ID embedding, for no photo that may be seen shows a face")
    return rows
