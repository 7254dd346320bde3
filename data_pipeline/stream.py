"""The samples of a training run: an endless sequence that depends on its seed alone and can be entered anywhere.

Draw n is the same sample, augmented the same way, whoever makes it. W processes take turns: of each W times `block` draws
rank r has those from r times `block` on. Together they see what one process would have seen, and with the batch for a
block a step of W ranks with B samples each has the very batch of one rank with W times B, in order. Ranks are not
disjoint, as draws are independent and with replacement.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_pipeline import members
from data_pipeline.augment import AugmentConfig, apply_to_image, apply_to_mask, draw_augmentation, valid_mask
from data_pipeline.latents import NAME, Latents
from data_pipeline.prefetch import Prefetch
from data_pipeline.sampling import AUGMENTATION, Sampler, SamplingConfig, draw_rng
from data_pipeline.training_set import BadSample, OnBad, open_training_set

log = logging.getLogger(__name__)

FORMAT = "adaface-stream/1"
# A dataset in which so many independent draws are bad one after the other is not worth reading.
_ATTEMPTS = 100


class StreamConfig(BaseModel):
    """Which samples a training sees. In a sound dataset the last four settings change none of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    datasets: list[str] = Field(min_length=1, description="finished dataset folders, local or URIs")
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    latents: str | None = Field(
        default=None, pattern=f"^{NAME.pattern}$", description="read these instead of encoding (needs scale: null)"
    )
    images: bool = Field(default=True, description="read pictures; false where latents are enough")
    on_bad: OnBad = Field(
        default="raise",
        description="a sample that is gone or damaged: raise: stop; skip: draw another in its place, and count it",
    )
    cache: str | None = Field(
        default=None, description="folder for indexes and latents; null: in the datasets' own folders"
    )
    threads: int = Field(default=2, ge=0, le=256, description="that read and decode ahead; 0: none does")
    ahead: int = Field(default=64, ge=1, description="samples held ready, at most; 1.3 MB each at 512 px")

    @model_validator(mode="after")
    def _latents_are_of_whole_pictures(self) -> StreamConfig:
        if self.latents is not None and self.augment.scale is not None:
            raise ValueError("latents are of whole pictures: set augment.scale to null, or do without latents")
        if self.latents is None and not self.images:
            raise ValueError("neither pictures nor latents are to be read; name latents, or set images to true")
        return self


@dataclass(frozen=True)
class Sample:
    """One draw. S is `augment.size`."""

    key: str
    source: str
    identity: str | None  # None: unknown
    person_type: str
    image: np.ndarray | None  # (S, S, 3) uint8 RGB, black where it is not valid; None with `images: false`
    person_mask: np.ndarray  # (S, S) uint8, {0, 1}; 1 wherever it is valid if the sample has no mask
    has_person_mask: bool
    valid_mask: np.ndarray  # (S, S) uint8, {0, 1}: 0 in the border around a smaller picture
    id_embedding: (
        np.ndarray
    )  # (D,) float32, unit norm, of the photo as it is in the dataset: neither mirrored nor scaled
    flipped: bool
    latent: np.ndarray | None  # float16, of the picture as it is here, mirrored or not; None without `latents`


class TrainingStream:
    """Endless iterator over samples; see the module.

    Attributes:
        training_set: all samples.
        sampler: what decides which sample is drawn.
        id_dim: length of the ID embeddings.
        skipped: of this rank: kind of damage -> draws it has cost.
    """

    def __init__(self, config: StreamConfig, *, seed: int, rank: int = 0, world_size: int = 1, block: int = 1):
        """
        Args:
            seed: 0 .. 2^64 - 1.
            block: draws in a row that belong to one rank, see the module.

        Raises:
            ValueError: as `open_training_set`, `Sampler` and `Latents`; a rank outside of 0 .. world_size - 1.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size}")
        if block < 1:
            raise ValueError(f"a block is 1 draw or more, not {block}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"the seed must be from 0 to 2^64 - 1, not {seed}")
        self.config, self.seed, self.rank, self.world_size, self.block = config, seed, rank, world_size, block
        self.training_set = open_training_set(config.datasets, cache=config.cache, on_bad=config.on_bad)
        self.id_dim = self.training_set.id_dim
        self.sampler = Sampler(
            self.training_set.identities.to_pylist(), self.training_set.sources.to_pylist(), config.sampling, seed
        )
        self._latents = Latents(self.training_set, config.latents, config.augment.size) if config.latents else None
        self._base = 0  # first draw of this stream's turns
        self._taken = 0  # samples of this rank since then
        self.skipped: Counter[str] = Counter()
        self._known: set[tuple[str, str]] = set()  # (shard, kind) of damage that was logged
        self._prefetch: Prefetch[tuple[Sample, list[BadSample]]] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Sample:
        """The next sample of this rank.

        Raises:
            BadSample: with `on_bad: raise`; again at every further call.
            OSError: the storage does not answer; asking again is possible.
        """
        if self._prefetch is None:
            threads, ahead = self.config.threads, self.config.ahead
            self._prefetch = Prefetch(self._turn, self._taken, threads=threads, ahead=ahead)
        try:
            sample, bad = self._prefetch.take()
        except (OSError, ValueError):
            self.close()
            raise
        self._taken += 1
        for problem in bad:
            self._count(problem)
        return sample

    @property
    def position(self) -> int:
        """Draws that all ranks together have handed out, if all have taken as many as this one."""
        return self._base + self._taken * self.world_size

    def draw(self, number: int) -> Sample:
        """Draw `number` of the whole sequence, without moving the stream."""
        return self._draw(number)[0]

    def state(self) -> dict[str, Any]:
        """Where the stream is, small and JSON-able; equal on all ranks that have taken equally many samples, but for
        what they skipped: that is the count of the rank that is asked, and another rank that loads it counts on from there.

        What was only prepared ahead counts as not taken.
        """
        state = {"format": FORMAT, "position": self.position, "of": self._of(), "skipped": dict(self.skipped)}
        if within := self._taken % self.block:
            state["within"] = {"samples": within, "block": self.block, "world_size": self.world_size}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where a stream was when it gave `state`: the next samples are those that it gave next.

        The number of ranks may be another one; then the ranks together go on. Threads, `ahead`, `on_bad`, `cache` and
        the place of the datasets may differ, too.

        Raises:
            ValueError: not a state, or that of a stream of other samples, seed or settings; says which. The stream stays
                where it is.
        """
        if state.get("format") != FORMAT:
            raise ValueError(
                f"not the state of a stream: format {state.get('format')!r}, this version reads {FORMAT!r}"
            )
        differ = [name for name, value in self._of().items() if state.get("of", {}).get(name) != value]
        if differ:
            raise ValueError(
                f"the checkpoint's stream differs in: {', '.join(differ)}; go on with the data and settings that it was "
                "started with, or start a new run"
            )
        position, skipped = state.get("position"), state.get("skipped")
        if not isinstance(position, int) or position < 0 or not isinstance(skipped, dict):
            raise ValueError(f"the state of the stream is damaged: position {position!r}, skipped {skipped!r}")
        within = state.get("within", {"samples": 0, "block": self.block, "world_size": self.world_size})
        if (within["block"], within["world_size"]) != (self.block, self.world_size):
            raise ValueError(
                f"the state was taken within a block of {within['block']} draws of each of {within['world_size']} ranks; "
                f"it cannot go on with {self.block} and {self.world_size}"
            )
        self.close()
        self._taken = int(within["samples"])
        self._base, self.skipped = position - self._taken * self.world_size, Counter(skipped)

    def close(self) -> None:
        """End the threads; taking another sample starts them again."""
        if self._prefetch is not None:
            self._prefetch.close()
            self._prefetch = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _of(self) -> dict[str, Any]:
        """Everything that the sequence depends on."""

        def digest(config: BaseModel) -> str:
            return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]

        config = self.config
        return {
            "samples": self.training_set.digest,
            "seed": self.seed,
            "sampling": digest(config.sampling),
            "augment": digest(config.augment),
            "latents": config.latents,
            "images": config.images,
        }

    def _turn(self, turn: int) -> tuple[Sample, list[BadSample]]:
        """The sample of this rank's turn, counted from `_base`."""
        rounds, within = divmod(turn, self.block)
        return self._draw(self._base + (rounds * self.world_size + self.rank) * self.block + within)

    def _count(self, problem: BadSample) -> None:
        self.skipped[problem.kind] += 1
        if (problem.shard, problem.kind) not in self._known:
            self._known.add((problem.shard, problem.kind))
            log.warning("skipped: %s; further ones of this shard and kind are only counted", problem)

    def _draw(self, number: int) -> tuple[Sample, list[BadSample]]:
        """The sample of a draw, and what was in its way."""
        bad: list[BadSample] = []
        while len(bad) < _ATTEMPTS:
            try:
                return self._sample(self.sampler.draw(number, attempt=len(bad)), number), bad
            except BadSample as problem:
                if self.config.on_bad == "raise":
                    raise
                bad.append(problem)
        raise ValueError(
            f"{_ATTEMPTS} samples in a row cannot be used, the last: {bad[-1]}; run `adaface verify-dataset`"
        )

    def _sample(self, index: int, number: int) -> Sample:
        config, found = self.config.augment, self.training_set
        what = draw_augmentation(config, draw_rng(self.seed, AUGMENTATION, number))
        data = found.read(index, ["id.npy", "jpg", "mask.png"] if self.config.images else ["id.npy", "mask.png"])
        embedding = members.id_embedding(data["id.npy"], found.id_dim) if "id.npy" in data else None
        if embedding is None:
            raise found.bad(index, "no ID embedding", f"its .id.npy is not one of {found.id_dim} numbers")
        image, mask = None, None
        if self.config.images:
            image = members.picture(data.get("jpg", b""))
            if image is None:
                raise found.bad(index, "does not decode", ".jpg")
            image = apply_to_image(what, config.size, image)
        if "mask.png" in data:
            mask = members.person_mask(data["mask.png"])
            if mask is None:
                raise found.bad(index, "does not decode", ".mask.png")
            mask = apply_to_mask(what, config.size, mask)
        valid = valid_mask(what, config.size)
        return Sample(
            key=found.keys[index].as_py(),
            source=found.sources[index].as_py(),
            identity=found.identities[index].as_py(),
            person_type=found.person_types[index].as_py(),
            image=image,
            person_mask=valid.copy() if mask is None else mask,
            has_person_mask=mask is not None,
            valid_mask=valid,
            id_embedding=embedding,
            flipped=what.flipped,
            latent=self._latents.read(index, what.flipped) if self._latents else None,
        )


def collate(samples: Sequence[Sample], *, pin_memory: bool = False) -> dict[str, Any]:
    """A batch of B samples.

    Args:
        pin_memory: page-locked tensors, which a GPU copies while it computes; needs CUDA.

    Returns:
        "image" uint8 (B, S, S, 3), "person_mask" and "valid_mask" uint8 (B, S, S), "id_embedding" float32 (B, D),
        "latent" float16 (B, ...), "has_person_mask" and "flipped" bool (B,); "key", "source", "identity" and
        "person_type": lists. Without "image" or "latent" where the samples have none.
    """
    import torch

    lists = ("key", "source", "identity", "person_type")
    tensors: dict[str, torch.Tensor] = {}
    for name in ("image", "person_mask", "valid_mask", "id_embedding", "latent"):
        if samples and getattr(samples[0], name) is not None:
            tensors[name] = torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))
    for name in ("has_person_mask", "flipped"):
        tensors[name] = torch.tensor([getattr(sample, name) for sample in samples], dtype=torch.bool)
    if pin_memory:
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    return {**{name: [getattr(sample, name) for sample in samples] for name in lists}, **tensors}
