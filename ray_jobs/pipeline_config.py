"""The section `pipeline` of a dataset's configuration: what is made of that dataset, and with which settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
DATASET = "dataset"
RESERVED = (DATASET, "evaluation")  # names of the other steps


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlbumConfig(_Section):
    """An album that is drawn where there is none, by `adaface render-faces`."""

    folder: str
    identities: int = Field(ge=1, description="folders of people")
    images: int = Field(ge=1, description="files in each")
    faults: float = Field(default=0.0, ge=0, le=0.5, description="share of faulty files")
    flat: int | None = Field(default=None, ge=0, description="files in the flat folder; null: twice `identities`")
    seed: int = Field(default=0, ge=0)
    studio: float = Field(default=0.0, ge=0, le=1, description="share of the good photos taken in a studio")

    def size(self) -> dict[str, Any]:
        """As an AlbumSize has it."""
        flat = 2 * self.identities if self.flat is None else self.flat
        return {**self.model_dump(exclude={"folder"}), "flat": flat}


class PartConfig(_Section):
    """Another configuration file, and what is different here."""

    config: str = Field(description="file, relative to the folder the command runs in")
    changes: dict[str, Any] = Field(default={}, description="sections and keys of that file with other values")

    def overrides(self) -> list[str]:
        """The changes as `--set` takes them."""
        return list(flattened(self.changes))


class RoundConfig(_Section):
    """A run of training. It starts from the encoder of the round before it; the first from what its file names."""

    name: Name
    stage: Literal[1, 2]
    after: str | None = Field(
        default=None,
        description="an earlier round, to start from its encoder; `dataset`: from what the file of `distill` names; null: "
        "the round before it",
    )
    changes: dict[str, Any] = Field(default={}, description="of the file of `distill`, for this round")

    def overrides(self) -> list[str]:
        return list(flattened(self.changes))


class PipelineSection(_Section):
    """What comes after the dataset. Each round and the evaluation get what was made before them by themselves."""

    output: str = Field(description="folder or URI: runs/, evaluation/, history/")
    draw: list[AlbumConfig] = Field(default=[], description="photos of nobody, before everything else")
    distill: PartConfig
    rounds: list[RoundConfig] = Field(min_length=1)
    evaluate: PartConfig

    @model_validator(mode="after")
    def _names(self) -> PipelineSection:
        names = [each.name for each in self.rounds]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several rounds are called {', '.join(twice)}")
        taken = [name for name in names if name in RESERVED]
        if taken:
            raise ValueError(f"a round cannot be called {', '.join(taken)}, as another step is")
        for place, each in enumerate(self.rounds):
            earlier = [DATASET, *names[:place]]
            if each.after is not None and each.after not in earlier:
                raise ValueError(
                    f"round {each.name} comes after {each.after!r}; before it there are {', '.join(earlier)}"
                )
        return self

    def starts(self) -> list[tuple[RoundConfig, RoundConfig | None]]:
        """Each round with the one whose encoder it starts from; None where it starts from what its file names."""
        found: dict[str, RoundConfig] = {}
        pairs: list[tuple[RoundConfig, RoundConfig | None]] = []
        last = None
        for each in self.rounds:
            pairs.append((each, last if each.after is None else found.get(each.after)))
            found[each.name] = last = each
        return pairs


def flattened(changes: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """{"stage1": {"seed": 7}} as "stage1.seed=7", the way `--set` takes it; lists are whole values."""
    for key, value in changes.items():
        place = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{place}.")
        else:
            yield setting(place, value)


def setting(place: str, value: Any) -> str:
    """One `key=value` as `--set` takes it."""
    written = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n")
    return f"{place}={written.strip()}"
