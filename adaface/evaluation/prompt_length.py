"""Which prompts do not fit into the window of a base model's text encoder, as far as its tokenizer is at hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from adaface.model_path import model_path

if TYPE_CHECKING:
    from adaface.evaluation.prompts import Prompt


def open_tokenizer(base: str) -> Any | None:
    """The tokenizer of a base model, with the length of its window; None where it is not on this machine.

    Raises ValueError for a shipped model that is not whole.
    """
    from transformers import CLIPTokenizer

    folder = model_path(base)
    if folder.is_file():  # a checkpoint in one file has no tokenizer
        return None
    try:
        tokenizer = CLIPTokenizer.from_pretrained(
            str(folder) if folder.is_dir() else base, subfolder="tokenizer", local_files_only=True
        )
    except (OSError, ValueError):
        return None
    positions = _positions(folder)
    if positions is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer


def too_long(tokenizer: Any, prompts: Sequence[Prompt], words: Iterable[str], vectors: int = 0) -> list[str]:
    """One sentence for each prompt that is too long with one of `words` in it, or with a subject of `vectors` tokens.

    Counted exactly as prompts are encoded later, weights such as `(word:1.2)` understood.
    """
    from adaface.evaluation.prompts import TOKEN
    from adaface.subjects.prompt_tokens import PromptTokenizer

    config = SimpleNamespace(max_position_embeddings=tokenizer.model_max_length)
    pipe = SimpleNamespace(tokenizer=tokenizer, text_encoder=SimpleNamespace(config=config))
    reader = PromptTokenizer(pipe, {TOKEN: vectors} if vectors else {})
    fillings = sorted({TOKEN} if vectors else set(words))
    problems = []
    for prompt in prompts:
        lengths = {
            word: sum(len(unit.ids) for unit in reader.units(prompt.of(word), subjects=bool(vectors)))
            for word in fillings
        }
        word = max(lengths, key=lambda filling: lengths[filling])
        if (over := lengths[word] - reader.room) > 0:
            filling = f"the {vectors} vectors of a subject" if vectors else repr(word)
            problems.append(
                f"prompt {prompt.id} is {over} token{'s'[: over > 1]} too long with {filling}: {lengths[word]} where the "
                f"window has room for {reader.room}; shorten it: {prompt.text[:60]!r}"
            )
    return problems


def _positions(folder: Path) -> int | None:
    try:
        values = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = values.get("max_position_embeddings") if isinstance(values, dict) else None
    return found if isinstance(found, int) and found > 2 else None
