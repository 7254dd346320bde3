"""What the report and the card say of how a run was made: everything that defines it, and no folder of anybody's machine."""

from __future__ import annotations

from typing import Any

from adaface.evaluation.config import EvaluationConfig
from adaface.evaluation.protocol_words import protocol_words


def config(**changes: Any) -> EvaluationConfig:
    values: dict[str, Any] = {
        "output": "/home/me/out",
        "subjects": {"folder": "/home/me/faces", "given": 3},
        "prompts": {"sets": ["live", "/home/me/secret/mine.txt", "package://adaface.miniature/prompts.yaml"]},
        "generation": {"base": "/home/me/models/sd15", "negative_prompt": "blurry"},
        "methods": [
            {"kind": "class_word"},
            {
                "kind": "teacher",
                "unet": "/home/me/models/arc/unet",
                "text_encoder": "/home/me/models/arc/text",
                "guidance": [3, 3],
            },
        ],
        "measures": {"faces": {"pack": "/home/me/models/antelopev2"}},
    }
    return EvaluationConfig.model_validate(values | changes)


def test_everything_that_defines_a_run_is_said() -> None:
    words = protocol_words(config(), 12, 50)
    assert words == {
        "base model": "sd15",
        "subjects": "12",
        "photos given to the methods": "the first 3",
        "prompts": "50 from live, mine.txt, prompts.yaml",
        "pictures per prompt": "4",
        "sampler": "DDIM, 50 steps, eta 0",
        "precision": "float32",
        "guidance": "4 to 1",
        "negative prompt": "blurry",
        "text encoder": "its last 2 layers, weighted 1, 1",
        "seeds": "from sha256(42/subject/prompt/number), the same for all methods",
        "teacher teacher": "UNet unet, text encoder text, guidance 3 to 3",
    }
    assert "/home" not in str(words)


def test_what_is_not_there_is_said() -> None:
    generation = {"base": "hub/base", "negative_prompt": None, "clip_skip_weights": None}
    words = protocol_words(config(subjects={"folder": "x"}, generation=generation), 1, 1)
    assert words["base model"] == "hub/base" and words["negative prompt"] == "none"
    assert words["text encoder"] == "its last layer" and words["photos given to the methods"] == "all"


def test_own_methods_may_do_otherwise() -> None:
    method = {"kind": "entry_point", "name": "mine", "entry_point": "m:f"}
    assert "own methods" in protocol_words(config(methods=[method]), 1, 1)
    assert "own methods" not in protocol_words(config(), 1, 1)
