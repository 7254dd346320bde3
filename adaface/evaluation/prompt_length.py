"""Which prompts do not fit into the window of a base model's text encoder, as far as its tokenizer is at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from adaface.evaluation.base_text import text_sizes
from adaface.model_path import model_path

if TYPE_CHECKING:
    from adaface.evaluation.prompts import Prompt


def open_tokenizer(base: str) -> Any | None:
    """The tokenizer of a base model, with the length of its window; None where it is not on this machine.

    Raises ValueError and FileNotFoundError for a model in a folder whose tokenizer is not whole, ValueError for a
    shipped model that is not whole.
    """
    from adaface.evaluation.methods.model_files import local_folder
    from adaface.models.whole import has_tokenizer, load_tokenizer

    folder = local_folder(base)
    if folder is None or folder.is_file():  # a checkpoint in one file has no tokenizer
        return None
    if not model_path(base).is_dir() and not has_tokenizer(folder / "tokenizer"):
        return None  # of the hub, from where the rest of it is still to come
    sizes = text_sizes(folder)
    tokenizer = load_tokenizer(folder, sizes.get("vocab_size"), subfolder="tokenizer", local_files_only=True)
    if (positions := sizes.get("max_position_embeddings", 0)) > 2:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer


def too_long(tokenizer: Any, prompts: Sequence[Prompt], words: Iterable[str], vectors: int = 0) -> list[str]:
    """One sentence for each prompt that is too long with one of `words` in it, or with a subject of `vectors` tokens.

    Counted exactly as prompts are encoded later, weights such as `(word:1.2)` understood.
    """
    from adaface.evaluation.prompt_lines import TOKEN
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
