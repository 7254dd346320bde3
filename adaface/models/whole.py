"""Models of transformers and diffusers, and CLIP tokenizers, that are whole.

Their libraries do not refuse half of one: tensors that are missing become random numbers, and of a folder without a
tokenizer's files a tokenizer of two words is made, for which all texts are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

# The words of a tokenizer and how they are put together: in one file, or as it was published at first.
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def load_model(kind: Any, where: str | Path, what: str, *, unused: str = "", **options: Any) -> Any:
    """`kind.from_pretrained(where, **options)`.

    Args:
        kind: a class of transformers or diffusers.
        where: a folder, or a repository of the hub.
        what: the name of such a model in messages.
        unused: tensors whose names begin so may be missing: nobody reads what is made with them.

    Raises:
        FileNotFoundError: when there is no such model.
        ValueError: for one with missing tensors or broken files.
    """
    try:
        with _without_reports():
            model, loaded = kind.from_pretrained(where, output_loading_info=True, **options)
    except OSError as error:
        raise FileNotFoundError(f"no {what} can be read from {where}: {error}") from error
    except SafetensorError as error:
        raise ValueError(f"{where} is no whole {what}: {error}") from error
    missing = sorted(name for name in loaded["missing_keys"] if not (unused and name.startswith(unused)))
    if missing:
        raise ValueError(f"{where} is no whole {what}: {len(missing)} tensors are missing, {missing[0]} first")
    return model


@contextmanager
def _without_reports() -> Iterator[None]:
    """Transformers prints a table of what it did not use: half of a CLIP, where the other half is what was asked for."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def load_tokenizer(where: str | Path, words: int | None = None, **options: Any) -> Any:
    """The `CLIPTokenizer` in a folder or a repository of the hub.

    Args:
        words: how many the text model knows that reads its tokens, where that is known.
        options: for `from_pretrained`; `subfolder` among them.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: for one of fewer words than the text model has: half a tokenizer, or another model's.
    """
    from transformers import CLIPTokenizer

    folder = Path(where, options.get("subfolder", ""))
    if Path(where).is_dir() and not has_tokenizer(folder):
        raise FileNotFoundError(f"{folder} has no whole tokenizer ({_names()}); download the whole model")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(where, **options)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"no tokenizer can be read from {folder}: {error}") from error
    known = len(tokenizer)
    # two: a start and an end, which are made up where there is nothing
    if known <= 2 or (words is not None and known < words):
        wanted = "" if words is None else f", and the text model {words}"
        raise ValueError(f"the tokenizer in {folder} has {known} words{wanted}; download the whole model")
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a CLIP tokenizer."""
    return any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS)


def _names() -> str:
    return ", or ".join(" and ".join(names) for names in _TOKENIZERS)
