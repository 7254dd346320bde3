"""Where the models of metrics lie, and which weights they have."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adaface.model_path import may_be_on_the_hub, model_path

_WEIGHTS = ("*.safetensors", "*.bin")  # as transformers chooses: pickles only where there is nothing else
_OTHERS = ("*.json", "*.txt")


def locate_model(name: str) -> Path:
    """The local folder of a transformers model: a path, `package://PACKAGE/PATH`, or a repository of the hub, which is
    downloaded; of that only the configuration and one form of weights.

    Raises FileNotFoundError when there is none.
    """
    folder = model_path(name)
    if folder.is_dir():
        return folder
    if folder.exists() or not may_be_on_the_hub(name):
        raise FileNotFoundError(f"{name}: there is no such folder of a model (nor is it a name of the hub)")
    from huggingface_hub import snapshot_download

    try:
        got = Path(snapshot_download(name, allow_patterns=[*_OTHERS, _WEIGHTS[0]]))
        if not any(got.glob(_WEIGHTS[0])):
            got = Path(snapshot_download(name, allow_patterns=[*_OTHERS, _WEIGHTS[1]]))
    except (OSError, ValueError) as error:  # no network, no such repository, no access
        raise FileNotFoundError(f"{name}: there is no such folder, and the hub did not give it: {error}") from error
    return got


def weights_sha256(folder: Path) -> str:
    """Hex sha256 of the weights in a model's folder; of several files, of the list of their names and hashes.

    Raises FileNotFoundError for a folder without weights.
    """
    from adaface.perception.pack import sha256

    for pattern in _WEIGHTS:
        if files := sorted(folder.glob(pattern)):
            if len(files) == 1:
                return sha256(files[0])
            listing = "".join(f"{file.name} {sha256(file)}\n" for file in files)
            return hashlib.sha256(listing.encode()).hexdigest()
    raise FileNotFoundError(f"{folder} has no weights ({', '.join(_WEIGHTS)})")
