"""Which images there are: listing of the three layouts, and the content hash that names each image.

Sources are only ever read. What is listed but not a photo is counted, never silently dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import fs

from data_pipeline.config import DataConfig, SourceConfig
from data_pipeline.decode import EXTENSIONS
from data_pipeline.schema import GIVEN, SOURCE
from data_pipeline.storage import Storage, is_uri, read_file

# What a scan remembers, so that the next one reads only files that are new or changed.
HASHES = pa.schema(
    [
        pa.field("stamp", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("mask_id", pa.string()),
        pa.field("error", pa.string()),
    ]
)

# `Found`, for steps that hand images on as a file.
FOUND = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("path", pa.string()),
        pa.field("identity", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("mask_path", pa.string()),
        pa.field("mask_stamp", pa.string()),
        pa.field("mask_is_given", pa.bool_()),
    ]
)

_MASK = re.compile(r"(?P<stem>.+)_mask\.png$", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """One image file of a source, not yet read."""

    source: str
    path: str
    identity: str | None
    licence: str
    size: int
    mtime_ns: int
    mask_path: str | None
    mask_stamp: str
    mask_is_given: bool

    @property
    def stamp(self) -> str:
        """What must be unchanged for a known hash to be trusted: path, size and time of the image and of its mask."""
        return f"{self.path}|{self.size}|{self.mtime_ns}|{self.mask_stamp}"


@dataclass
class Listing:
    images: list[Found] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)  # file extension -> files that are not photos


def list_images(config: DataConfig) -> Listing:
    """List every image of every source, ordered by source and path.

    Raises:
        ValueError: sources that do not exist, that hold no image, or that overlap with the output folder; all at once.
    """
    problems: list[str] = []
    listing = Listing()
    for source in config.sources:
        wrong = list(_check_source(source, config.output))
        problems += wrong
        if wrong:
            continue
        images = _list_source(source, listing.ignored)
        if not images:
            problems.append(_no_image(source))
        listing.images += images
    if problems:
        raise ValueError("\n".join(problems))
    if config.limit is not None:
        del listing.images[config.limit :]
    return listing


def source_problems(config: DataConfig) -> list[str]:
    """What is wrong with the sources, as far as it shows without listing them; the rest shows in `list_images`."""
    problems: list[str] = []
    for source in config.sources:
        wrong = list(_check_source(source, config.output))
        # An object store can only be listed whole.
        if not wrong and not is_uri(source.path) and not any(map(_is_photo, _walk_local(source.path, Counter()))):
            wrong = [_no_image(source)]
        problems += wrong
    return problems


def _is_photo(entry: tuple[str, str, int, int]) -> bool:
    relative = entry[0]
    return os.path.splitext(relative)[1].lower() in EXTENSIONS and not _MASK.match(relative) and _is_utf8(entry[1])


def _no_image(source: SourceConfig) -> str:
    return f"source {source.label}: no image in {source.path} (looked for {', '.join(sorted(EXTENSIONS))})"


def _check_source(source: SourceConfig, output: str) -> Iterator[str]:
    if is_uri(source.path):
        if not Storage(source.path).exists(""):
            yield f"source {source.label}: nothing at {source.path}; check the address and the credentials"
            return
    elif not os.path.isdir(os.path.expanduser(source.path)):
        yield f"source {source.label}: no folder {source.path}; give an existing folder in data.sources"
        return
    folder, target = _place(source.path), _place(output)
    if target.startswith(folder):
        yield f"output {output} lies inside source {source.path}; choose another data.output"
    elif folder.startswith(target):
        yield f"source {source.path} lies inside output {output}; choose another data.output"


def _place(path: str) -> str:
    """Where a folder really is, with `/` at its end, so that one that lies in another starts with it."""
    path = path.removeprefix("file://")
    place = path.partition("?")[0] if is_uri(path) else os.path.realpath(os.path.expanduser(path))
    return place.rstrip("/") + "/"


def _list_source(source: SourceConfig, ignored: Counter[str]) -> list[Found]:
    files = []
    for entry in _walk_remote(source.path) if is_uri(source.path) else _walk_local(source.path, ignored):
        if _is_utf8(entry[1]):
            files.append(entry)
        else:
            ignored["(name is not valid UTF-8)"] += 1
    files.sort()
    photos = [relative for relative, *_ in files if not _MASK.match(relative)]
    stems = {stem for stem, ending in map(os.path.splitext, photos) if ending.lower() in EXTENSIONS}
    masks: dict[str, tuple[str, int, int]] = {}
    images: list[tuple[str, str, int, int]] = []
    for relative, path, size, mtime_ns in files:
        match = _MASK.match(relative)
        if match and match["stem"] in stems:
            masks[match["stem"]] = (path, size, mtime_ns)
        elif match:
            ignored["_mask.png without its image"] += 1
        elif os.path.splitext(relative)[1].lower() in EXTENSIONS:
            images.append((relative, path, size, mtime_ns))
        else:
            ignored[os.path.splitext(relative)[1].lower() or "(no extension)"] += 1
    found = []
    of_identity: Counter[str | None] = Counter()
    for relative, path, size, mtime_ns in images:
        folder, _, rest = relative.partition("/")
        identity = f"{source.label}/{folder}" if rest and source.layout != "flat" else None
        of_identity[identity] += 1
        if source.max_per_identity and identity and of_identity[identity] > source.max_per_identity:
            ignored["beyond max_per_identity"] += 1
            continue
        mask = masks.get(os.path.splitext(relative)[0])
        found.append(
            Found(
                source=source.label,
                path=path,
                identity=identity,
                licence=source.licence,
                size=size,
                mtime_ns=mtime_ns,
                mask_path=mask[0] if mask else None,
                mask_stamp="|".join(map(str, mask)) if mask else "",
                mask_is_given=source.layout == "pairs" and mask is not None,
            )
        )
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a surrogate: the file system gave bytes that are no text
        return False
    return True


def _walk_local(root: str, ignored: Counter[str]) -> Iterator[tuple[str, str, int, int]]:
    """(relative name, full path, bytes, mtime) of the visible files; links are followed, but no folder is entered
    twice."""
    root = os.path.abspath(os.path.expanduser(root))
    entered: set[str] = set()
    stack = [root]
    while stack:
        folder = stack.pop()
        # The real path alone would drop a person whose folder is a link to one listed elsewhere only if both are in
        # the same source; that is the same photos twice, so once is right.
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except PermissionError:
            ignored["(folder that may not be opened)"] += 1
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            # A link to itself is no folder; it is listed as a file and fails when it is read.
            if _is_folder(entry):
                stack.append(entry.path)
                continue
            size, mtime_ns = _stat(entry)
            yield os.path.relpath(entry.path, root).replace(os.sep, "/"), entry.path, size, mtime_ns


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stat(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:  # dangling link, vanished file: reading it will say so
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _walk_remote(uri: str) -> Iterator[tuple[str, str, int, int]]:
    scheme, _, rest = uri.partition("://")
    query = rest.partition("?")[2]
    storage = Storage(uri)
    base = storage._root.rstrip("/") + "/"
    for info in storage._fs.get_file_info(fs.FileSelector(storage._root, recursive=True)):
        if info.type != fs.FileType.File or any(part.startswith(".") for part in info.path[len(base) :].split("/")):
            continue
        full = f"{scheme}://{info.path}" + (f"?{query}" if query else "")
        yield info.path[len(base) :], full, info.size, info.mtime_ns or 0


def hash_images(images: Sequence[Found], max_bytes: int) -> list[dict]:
    """Read some images, and the masks beside them, once, and name them by the sha256 of their bytes.

    Returns:
        rows of HASHES. A file that cannot be read gets `error` and is named by its path.
    """
    return [{"stamp": image.stamp, **_hashes(image, max_bytes)} for image in images]


def _hashes(image: Found, max_bytes: int) -> dict[str, str | None]:
    mask_id = None
    if image.mask_path is not None:
        # Without its mask a pair is an ordinary photo; a mask for comparison is simply not compared.
        with contextlib.suppress(OSError, ValueError):
            mask_id = hashlib.sha256(read_file(image.mask_path, max_bytes)).hexdigest()
    try:
        image_id = hashlib.sha256(read_file(image.path, max_bytes)).hexdigest()
    except (OSError, ValueError) as problem:
        unreadable = hashlib.sha256(f"unreadable:{image.path}".encode()).hexdigest()
        return {"image_id": unreadable, "mask_id": mask_id, "error": f"cannot be read: {problem}"}
    return {"image_id": image_id, "mask_id": mask_id, "error": None}


def source_table(images: Sequence[Found], hashes: dict[str, dict]) -> pa.Table:
    """The SOURCE table: one row per image found.

    Args:
        hashes: rows of HASHES by stamp, one for every image.
    """
    rows = []
    for image in images:
        known = hashes[image.stamp]
        has_mask = known["mask_id"] is not None
        given = image.mask_is_given and has_mask
        rows.append(
            {
                "image_id": known["image_id"],
                "source": image.source,
                "path": image.path,
                "identity": image.identity,
                "licence": image.licence,
                "bytes": image.size,
                "mask_path": image.mask_path if has_mask else None,
                "mask_id": f"{GIVEN}{known['mask_id']}" if given else known["mask_id"],
                "mask_is_given": given,
                "error": known["error"],
            }
        )
    return pa.Table.from_pylist(rows, schema=SOURCE)
