"""Models of the registry from the Hugging Face hub: `adaface models --download`."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import errors, hf_hub_download

from adaface.models.files import RECORD, FileState, by_hand, look, place_of, read_record, record_key, sha256
from adaface.models.registry import Artefact, HubSource, ModelFile

Say = Callable[[str], None]
# Of the HTTP library of huggingface_hub, which says this way what went wrong in the middle of a file.
_HTTP_ERROR: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]


def download(artefact: Artefact, root: Path, say: Say = print) -> list[Path]:
    """Bring every file of `artefact` that is missing or broken to its place below `root`; returns what was brought.

    All files are loaded into a hidden folder beside their place first and compared with their hashes (the registry's,
    and the one that the hub gives for large files); only then they are moved, one rename each. What is interrupted
    goes on where it stopped.

    Raises:
        ValueError: the artefact is shipped, not downloaded.
        ConnectionError: the hub cannot be reached or does not give the files, with the way to do it by hand.
        RuntimeError: what came is not what was expected.
    """
    if not artefact.sources:
        raise ValueError(f"{artefact.name} comes with the package; {artefact.by_hand}")
    found = {state.file: state for state in look(artefact, root, thorough=True).files}
    wanted = [(source, file) for source in artefact.sources for file in source.files if found[file].state != "present"]
    if not wanted:
        say(f"{artefact.name}: all {len(found)} files are there")
        return []
    place = place_of(artefact, root)
    waiting = root / f".{artefact.name}.partial"
    waiting.mkdir(parents=True, exist_ok=True)
    _check_room(artefact, wanted, root)
    try:
        brought = [(file, *_bring(artefact, source, file, waiting, place, say)) for source, file in wanted]
    except (OSError, _HTTP_ERROR) as error:
        _keep_only_downloads(waiting)
        raise _explained(artefact, place, error) from error
    moved = []
    for file, name, entry in brought:
        moved.append(_move(waiting / (file.remote or name), place / name, found[file]))
        _remember(root, moved[-1], entry)
        say(f"{artefact.name}: {moved[-1]}")
    shutil.rmtree(waiting)
    return moved


def _bring(
    artefact: Artefact, source: HubSource, file: ModelFile, waiting: Path, place: Path, say: Say
) -> tuple[str, dict[str, str]]:
    """Load one file; returns its name in the artefact's folder, and what to remember of it."""
    name = file.path
    say(f"{artefact.name}: {file.remote or name} from {source.repo}")
    try:
        local = Path(_load(source, file.remote or name, waiting))
    except errors.EntryNotFoundError as error:
        if not file.or_path or isinstance(error, errors.LocalEntryNotFoundError):
            raise
        name = file.or_path
        say(f"{artefact.name}: it has {name} instead")
        local = Path(_load(source, name, waiting))
    commit, etag = _metadata(waiting, file.remote or name)
    found = sha256(local)
    of_registry = file.sha256 if name == file.path else None
    of_hub = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None  # large files; small ones have a git hash
    for expected, whose in ((of_registry, "the registry"), (of_hub, "the hub")):
        if expected and found != expected:
            local.unlink()
            raise RuntimeError(
                f"{artefact.name}: {name} of {source.repo} has sha256 {found}, {whose} says {expected}; it was not put "
                f"into {place}. Try again; if it stays so, the file was changed at its source: look there why"
            )
    return name, {"repo": source.repo, "revision": commit or source.revision, "sha256": found}


def _load(source: HubSource, name: str, waiting: Path) -> str:
    # named here, the endpoint is that of this call; else it is what was set when huggingface_hub was first imported
    endpoint = os.environ.get("HF_ENDPOINT")
    return str(hf_hub_download(source.repo, name, revision=source.revision, local_dir=waiting, endpoint=endpoint))


def _metadata(waiting: Path, name: str) -> tuple[str, str]:
    """(commit, etag) that huggingface_hub leaves beside what it downloads; "" for what it does not."""
    file = waiting / ".cache" / "huggingface" / "download" / f"{name}.metadata"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return (lines[0], lines[1]) if len(lines) >= 2 else ("", "")


def _keep_only_downloads(waiting: Path) -> None:
    """Remove the hidden folder where there is nothing in it to go on with."""
    begun = [file for file in waiting.rglob("*") if file.is_file() and file.stat().st_size]
    if not any(".cache" not in file.parts or file.suffix == ".incomplete" for file in begun):
        shutil.rmtree(waiting)


def _move(local: Path, place: Path, before: FileState) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(local, place)
    if before.path != place and before.state != "missing":  # a broken file under its other name
        before.path.unlink(missing_ok=True)
    return place


def _remember(root: Path, path: Path, entry: dict[str, str]) -> None:
    record = read_record(root) | {record_key(path, root): entry}
    fresh = root / f"{RECORD}.tmp"
    fresh.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n", encoding="utf-8")
    os.replace(fresh, root / RECORD)


def _check_room(artefact: Artefact, wanted: list[tuple[HubSource, ModelFile]], root: Path) -> None:
    needed = sum(file.bytes or 0 for _, file in wanted)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise ValueError(
            f"{artefact.name} takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at {root}; name another "
            "folder with --root"
        )


def _explained(artefact: Artefact, place: Path, error: Exception) -> ConnectionError:
    repos = ", ".join(source.url for source in artefact.sources)
    if isinstance(error, errors.GatedRepoError):
        why = f"the hub wants a login: accept the licence at {repos}, then run `hf auth login`"
    elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        why = "HF_HUB_OFFLINE is set: unset it, or take another machine"
    elif isinstance(error, errors.LocalEntryNotFoundError):
        why = "the hub cannot be reached from here"
    else:
        why = f"the hub did not give it ({str(error).strip().splitlines()[0]})"
    return ConnectionError(f"{artefact.name} was not downloaded: {why}. By hand: {by_hand(artefact, place)}")
