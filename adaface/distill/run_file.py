"""A stage of training as a configuration file has it, for what runs without the jobs: benchmarks, dry runs.

The files are those of `distill` (configs/distill-*.yaml). Only what a step is made of is read here: `models` as far as it
says which networks there are, `stage1` and `stage2`. What is beside them, data and machines, is for those who train.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from adaface.distill.stage import Stage, original_stage
from adaface.models.precision import Precision

_RUN_KEYS = ("init", "multiplier", "stage", "seed")


@dataclass(frozen=True)
class RunOfFile:
    """What a file says of one stage.

    Attributes:
        stage: its settings, over the original's.
        multiplier: keys and values per token of its encoder.
        filters: whether there is a CLIP that judges stage 2's candidates.
        backgrounds: whether there is a CLIP that sees what is around people, and so a background token.
        precision: of the frozen networks.
    """

    stage: Stage
    multiplier: int
    filters: bool
    backgrounds: bool
    precision: Precision


def read_run(path: str | Path, stage: int) -> RunOfFile:
    """Stage 1 or 2 of a configuration file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these files, or has unknown keys or wrong values in the stage; all unknown keys are named.
    """
    import yaml  # comes with transformers

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file: {error}") from error
    section = f"stage{stage}"
    if not isinstance(values, dict) or not isinstance(values.get("models"), dict):
        raise ValueError(f"{path}: a configuration of `distill` has the sections models, data, stage1 and stage2")
    run = values.get(section) or {}
    if not isinstance(run, dict):
        raise ValueError(f"{path}: {section} must be a section with keys, not {run!r}")
    if unknown := sorted(str(key) for key in run if key not in _RUN_KEYS):
        raise ValueError(f"{path}: {section} has no {', '.join(unknown)}; it has {', '.join(_RUN_KEYS)}")
    multiplier, precision = run.get("multiplier", 1), values["models"].get("precision", "fp32")
    if not isinstance(multiplier, int) or multiplier < 1:
        raise ValueError(f"{path}: {section}.multiplier must be a whole number, 1 or more, not {multiplier!r}")
    if precision not in get_args(Precision):
        raise ValueError(f"{path}: models.precision must be auto, fp32 or bf16, not {precision!r}")
    try:
        settings = stage_over_original(stage, run.get("stage") or {}, f"{section}.stage")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return RunOfFile(
        settings,
        multiplier,
        filters=bool(values["models"].get("clip")),
        backgrounds=bool(values["models"].get("vision")),
        precision=precision,
    )


def stage_over_original(stage: int, given: Mapping[str, Any], where: str = "stage") -> Stage:
    """The original's stage 1 or 2 with what is given instead, e.g. {"plan": {"batch": 16}}.

    Args:
        where: the name of the mapping, for errors.

    Raises:
        ValueError: naming all keys that no stage has; or what is wrong with the values.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} must be a section with keys, not {given!r}")
    whole = asdict(original_stage(stage))
    if unknown := list(_unknown(Stage, given, where)):
        raise ValueError("; ".join(unknown))
    found: Stage = _built(Stage, merged(whole, dict(given)), where)
    return found


def merged(usual: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`usual` with the values that are given; sections within are merged, too."""
    both = {**usual, **given}
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(usual.get(key), dict):
            both[key] = merged(usual[key], value)
    return both


def _unknown(kind: type[Any], given: Mapping[str, Any], where: str) -> Iterator[str]:
    hints = get_type_hints(kind)
    names = [entry.name for entry in fields(kind)]
    if strange := sorted(str(key) for key in given if key not in names):
        yield f"{where} has no {', '.join(strange)}; it has {', '.join(names)}"
    for name in names:
        if is_dataclass(hints[name]) and isinstance(value := given.get(name), Mapping):
            yield from _unknown(hints[name], value, f"{where}.{name}")


def _built(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """The dataclass of these values, those within it included."""
    hints = get_type_hints(kind)
    made: dict[str, Any] = {}
    for name, value in values.items():
        place = f"{where}.{name}"
        if not is_dataclass(hints[name]):
            made[name] = _number(hints[name], value, place)
        elif isinstance(value, Mapping):
            made[name] = _built(hints[name], value, place)
        else:
            raise ValueError(f"{place} must be a section with keys, not {value!r}")
    try:
        return kind(**made)
    except (ValueError, TypeError) as error:  # the settings compare numbers, which fails for anything else
        raise ValueError(f"{where}: {error}") from None


def _number(hint: Any, value: Any, place: str) -> Any:
    """YAML takes 1e-3, without a dot, for text."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if not isinstance(value, str) or float not in kinds:
        return value
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{place} must be a number, not {value!r}") from None
