"""A subject's vectors as a textual inversion: in a pipeline's own vocabulary, or in a file that other tools read."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def inversion_name(token: str) -> str:
    """The name a subject gets: `<z>` for z, which no vocabulary has and no other word contains."""
    return f"<{token}>"


def save_inversion(file: str | Path, name: str, vectors: Tensor) -> Path:
    """Write {name: (K, D) float32}, the layout of diffusers; A1111 and ComfyUI read it too, and call it by its file.

    Written whole or not at all. Raises ValueError unless the file's name ends in .safetensors.
    """
    path = Path(file).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: the name of a textual inversion must end in .safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({name: vectors.detach().float().cpu().contiguous()}, str(unfinished))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


@dataclass
class _Before:
    """What a pipeline had before the first installation."""

    backend: Any  # the tokenizer's vocabulary and rules; installing works on a copy of it
    tokens: int  # of the tokenizer
    rows: int  # of the token embedding, which may have more
    config_rows: int
    had_attribute: bool  # resizing leaves `vocab_size` on the text encoder


@dataclass
class Installed:
    """Textual inversions put into one pipeline, and the way back."""

    pipe: Any
    names: list[str] = field(default_factory=list)  # every token, <z>, <z>_1, ...
    _before: _Before | None = None

    def add(self, inversions: Mapping[str, Tensor]) -> None:
        """Put {name: (K, D)} into the pipeline through diffusers' own loader.

        Raises ValueError, before anything is changed, for names that the tokenizer has already.
        """
        tokenizer, text = self.pipe.tokenizer, self.pipe.text_encoder
        vocabulary = tokenizer.get_vocab()
        if taken := [name for name in inversions if name in vocabulary]:
            raise ValueError(
                f"the pipeline has {', '.join(taken)} already; unload() what was installed, or install under another "
                "name="
            )
        if self._before is None:
            self._before = _Before(
                tokenizer._tokenizer,
                len(tokenizer),
                text.get_input_embeddings().num_embeddings,
                text.config.vocab_size,
                "vocab_size" in vars(text),
            )
            tokenizer._tokenizer = copy.deepcopy(tokenizer._tokenizer)
        for name, vectors in inversions.items():
            # on the CPU, as the loader's files are; it casts to the model
            self.pipe.load_textual_inversion(vectors.detach().float().cpu(), token=name)
            self.names += [name, *(f"{name}_{number}" for number in range(1, len(vectors)))]

    def remove(self) -> None:
        """Give the pipeline back as it was before `add`, every byte of it.

        Textual inversions that were loaded afterwards stay, and then diffusers' own unloading takes these ones out.
        """
        if self._before is None:
            return
        tokenizer, text = self.pipe.tokenizer, self.pipe.text_encoder
        vocabulary = tokenizer.get_vocab()
        if len(tokenizer) == self._before.tokens + len(self.names) and all(map(vocabulary.__contains__, self.names)):
            tokenizer._tokenizer = self._before.backend
            embedding = text.get_input_embeddings()
            embedding.weight.data = embedding.weight.data[: self._before.rows].clone()
            embedding.num_embeddings = self._before.rows
            text.config.vocab_size = self._before.config_rows
            if not self._before.had_attribute:
                vars(text).pop("vocab_size", None)
        elif mine := [name for name in self.names if name in vocabulary]:
            self.pipe.unload_textual_inversion(mine)
            text.config.vocab_size = text.get_input_embeddings().num_embeddings
        self.names, self._before = [], None
