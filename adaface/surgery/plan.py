"""What goes where when parts of a checkpoint are replaced, worked out and checked before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adaface.surgery.ldm_keys import LDM_EMA, LDM_UNET, LDM_VAE
from adaface.surgery.parts import TITLES, Kind, Part, find_part, misfits
from adaface.surgery.weight_files import TensorInfo, Weights, sha256_of

# What a dtype is chosen for in a single file. The tables of the noise schedule beside them stay as they are: in half
# precision they lose their meaning.
_WEIGHTS = (LDM_UNET, LDM_VAE, "cond_stage_model.", LDM_EMA)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint by its models: {"": everything} for a single file, {"unet": ..., "vae": ...} for a folder.

    `parts` are those that can be replaced, `homes` the model that each of them is in.
    """

    where: Path
    models: Mapping[str, Weights]
    parts: Mapping[Kind, Part]
    homes: Mapping[Kind, str]


@dataclass(frozen=True)
class Replaced:
    """How one part is replaced. `differing`: tensors that are not what the base has; `largest`: by how much."""

    title: str
    source: str
    sha256: str
    tensors: int
    bytes: int  # as written
    dtypes: dict[str, int]  # of the donor
    differing: int
    largest: float


@dataclass(frozen=True)
class Plan:
    """For every tensor of every model of the base: shape and dtype to write, and where its values come from."""

    info: Mapping[str, Mapping[str, TensorInfo]]
    sources: Mapping[str, Mapping[str, tuple[Weights, str]]]
    replaced: list[Replaced]
    kept: dict[str, int]  # tensors by what they belong to

    @property
    def bytes(self) -> int:
        return sum(tensor.bytes for model in self.info.values() for tensor in model.values())

    @property
    def dtypes(self) -> dict[str, int]:
        return count_dtypes(tensor for model in self.info.values() for tensor in model.values())

    def reader(self, model: str) -> Callable[[str], Tensor]:
        """Reads a tensor of that model as it is to be written; ValueError where a value does not fit the dtype."""

        def read(name: str) -> Tensor:
            weights, source = self.sources[model][name]
            wanted = self.info[model][name]
            return _cast(weights.read(source), wanted, f"{weights.files[0]}: {source}")

        return read


def make_plan(base: Checkpoint, donors: Mapping[Kind, Path], dtype: torch.dtype | None) -> Plan:
    """Which tensor of `base` is replaced by which of the donors.

    Raises FileNotFoundError or ValueError with everything that does not fit.
    """
    problems: list[str] = []
    found: dict[Kind, Part] = {}
    for kind, source in donors.items():
        try:
            found[kind] = find_part(kind, source)
            problems += misfits(base.parts[kind], found[kind])
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
    if problems:
        raise ValueError(f"nothing was written; {base.where} cannot be composed:\n  " + "\n  ".join(problems))

    info = {
        model: {name: _wanted(model, name, tensor, dtype) for name, tensor in weights.info.items()}
        for model, weights in base.models.items()
    }
    sources = {model: {name: (weights, name) for name in weights.info} for model, weights in base.models.items()}
    replaced, taken = [], set()
    for kind, donor in found.items():
        part, home = base.parts[kind], base.homes[kind]
        replaced.append(_compare(part, donor, info[home]))
        for name, there in donor.names.items():
            sources[home][part.names[name]] = (donor.weights, there)
            taken.add((home, part.names[name]))
    kept = Counter(_owner(model, name) for model in info for name in info[model] if (model, name) not in taken)
    return Plan(info, sources, replaced, dict(sorted(kept.items())))


def count_dtypes(tensors: Iterable[TensorInfo]) -> dict[str, int]:
    """{"float16": 686, ...} of tensors or of what describes them."""
    return dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors).most_common())


def _compare(base: Part, donor: Part, info: Mapping[str, TensorInfo]) -> Replaced:
    """Look at every number of the donor: all must be finite in the dtype they are written in."""
    differing, largest, problems = 0, 0.0, []
    for name, there in donor.names.items():
        here = base.names[name]
        try:
            new = _cast(donor.weights.read(there), info[here], f"the {TITLES[base.kind]} of {donor.where}: {there}")
        except ValueError as error:
            problems.append(str(error))
            continue
        old = base.weights.read(here).to(new.dtype)
        if not torch.equal(new, old):
            differing += 1
            largest = max(largest, float((new.float() - old.float()).abs().max()))
    if problems:
        raise ValueError("nothing was written:\n  " + "\n  ".join(problems))
    return Replaced(
        title=TITLES[base.kind],
        source=str(donor.where),
        sha256=sha256_of(donor.weights.files),
        tensors=len(donor.names),
        bytes=sum(info[here].bytes for here in base.names.values()),
        dtypes=count_dtypes(donor.weights.info[there] for there in donor.names.values()),
        differing=differing,
        largest=largest,
    )


def _cast(tensor: Tensor, wanted: TensorInfo, what: str) -> Tensor:
    if tensor.is_floating_point():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{what} holds numbers that are not finite; the file is damaged, take another one")
        cast = tensor.to(wanted.dtype)
        if wanted.dtype.itemsize < tensor.dtype.itemsize and not bool(torch.isfinite(cast).all()):
            raise ValueError(f"{what} holds {tensor.abs().max():.3g}, too large for {wanted.dtype}; use bf16 or fp32")
        tensor = cast
    return tensor.reshape(wanted.shape)


def _wanted(model: str, name: str, tensor: TensorInfo, dtype: torch.dtype | None) -> TensorInfo:
    if dtype is None or not tensor.dtype.is_floating_point or (not model and not name.startswith(_WEIGHTS)):
        return tensor
    return TensorInfo(tensor.shape, dtype)


def _owner(model: str, name: str) -> str:
    if model:
        return model
    for prefix, title in (
        (LDM_UNET, "UNet"),
        (LDM_VAE, "VAE"),
        ("cond_stage_model.", "text encoder"),
        (LDM_EMA, "EMA"),
    ):
        if name.startswith(prefix):
            return title
    return "other"
