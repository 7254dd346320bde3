"""Which files a method's models were read from, by sha256."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from adaface.model_path import model_path

_WEIGHTS = (".safetensors", ".bin")
_TOKENIZER = ("merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json")
_HUB_S = 10.0  # to wait for an answer of the hub
_TEXTS = (".json", ".txt", ".model")


def hashes_below(folder: Path, parts: Iterable[str] = (".",)) -> dict[str, str]:
    """{path relative to `folder`: sha256} of the configurations and weights in `folder`, or in some sub-folders of it.

    Of weights that are there in several forms, those that diffusers and transformers read by default: safetensors
    before .bin, and no variants such as model.fp16.safetensors.
    """
    from adaface.perception.pack import sha256  # it remembers them while a file stays as it is

    files = {file for part in parts for file in _read_by_default(folder / part)}
    return {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(files)}


def tokenizer_hashes(folder: Path) -> dict[str, str]:
    """{file: sha256} of a tokenizer, which may lie in the folder of a model."""
    from adaface.perception.pack import sha256

    files = (folder / name for name in _TOKENIZER)
    return {file.name: sha256(file) for file in files if file.is_file()}


def local_folder(name: str) -> Path | None:
    """Where a model lies on this machine: a path, `package://PACKAGE/PATH`, or what was downloaded of a repository of
    the hub (`OWNER/NAME` or `OWNER/NAME/SUBFOLDER`). None for one that is not here.
    """
    path = model_path(name)
    if path.exists():
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError, LocalEntryNotFoundError

    repository, inside = hub_name(name)
    try:
        snapshot = Path(snapshot_download(repository, local_files_only=True))
    except IncompleteSnapshotError as error:  # only the files of it that are needed were downloaded
        snapshot = Path(error.snapshot_path)
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return snapshot / inside


def pinned(name: str) -> str:
    """`NAME@COMMIT` of a repository of the hub: the commit that is loaded now, as the hub says or, where it does not
    answer, as was downloaded. A name of neither is itself."""
    from huggingface_hub import HfApi, errors

    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    commit: str | None = None
    try:
        commit = HfApi().model_info(hub_name(name)[0], timeout=_HUB_S).sha
    except errors.HFValidationError:
        return name
    except (OSError, http_error):
        folder = local_folder(name)
        if folder is not None and "snapshots" in folder.parts:
            commit = folder.parts[folder.parts.index("snapshots") + 1]
    return f"{name}@{commit}" if commit else name


def hub_name(name: str) -> tuple[str, str]:
    """`OWNER/NAME/SUBFOLDER` -> ("OWNER/NAME", "SUBFOLDER"), the latter "" where there is none."""
    owner, _, rest = name.partition("/")
    repository, _, inside = rest.partition("/")
    return f"{owner}/{repository}", inside


def _read_by_default(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    files = [entry for entry in entries if entry.is_file()]
    weights = [file for file in files if file.suffix in _WEIGHTS and not _is_variant(file)]
    safe = [file for file in weights if file.suffix == ".safetensors"]
    yield from safe or weights
    yield from (file for file in files if file.suffix in _TEXTS)
    for entry in entries:
        if entry.is_dir():
            yield from _read_by_default(entry)


def _is_variant(file: Path) -> bool:
    """model.fp16.safetensors, but neither model.safetensors nor the part model-00001-of-00002.safetensors."""
    return "." in file.stem
