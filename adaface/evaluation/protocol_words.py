"""What defines a run, in a line for each thing, as the report and the model card say it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from adaface.evaluation.prompts import SETS
from adaface.evaluation.report.columns import short_model

if TYPE_CHECKING:
    from adaface.evaluation.config import EvaluationConfig


def protocol_words(config: EvaluationConfig, subjects: int, prompts: int) -> dict[str, str]:
    """{what: how}, in order. Models and files are named without the folders that they lie in."""
    generation = config.generation
    weights = generation.clip_skip_weights
    words = {
        "base model": short_model(generation.base),
        "subjects": str(subjects),
        "photos given to the methods": "all"
        if config.subjects.given is None
        else f"the first {config.subjects.given}",
        "prompts": f"{prompts} from {', '.join(_set_name(name) for name in config.prompts.sets)}",
        "pictures per prompt": str(generation.images_per_prompt),
        "sampler": f"DDIM, {generation.steps} steps, eta 0",
        "precision": generation.precision,
        "guidance": _range(generation.guidance),
        "negative prompt": generation.negative_prompt or "none",
        "text encoder": "its last layer" if weights is None else _layers(weights),
        "seeds": f"from sha256({generation.seed}/subject/prompt/number), the same for all methods",
    }
    for method in config.methods:
        if method.kind != "teacher":
            continue
        parts = f"UNet {short_model(method.unet)}, text encoder {short_model(method.text_encoder)}"
        scale = f", guidance {_range(method.guidance)}" if method.guidance else ""
        words[f"teacher {method.name}"] = parts + scale
    if any(method.kind == "entry_point" for method in config.methods):
        words["own methods"] = "are offered these settings and seeds; whether they use them is their own affair"
    return words


def _range(guidance: tuple[float, float]) -> str:
    return f"{guidance[0]:g} to {guidance[1]:g}"


def _layers(weights: tuple[float, ...]) -> str:
    if len(weights) == 1:
        return "its last layer"
    told = ", ".join(f"{weight:g}" for weight in weights)
    return f"its last {len(weights)} layers, weighted {told}"


def _set_name(name: str) -> str:
    """Of a set of the package its name, of a file no more than its own name."""
    return name if name in SETS else PurePosixPath(name.replace("\\", "/")).name
