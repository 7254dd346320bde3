"""From a method of the configuration to what draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaface.evaluation.methods.base import BasePipe, Method
from adaface.evaluation.methods.class_word import ClassWordMethod
from adaface.evaluation.methods.encoder import EncoderMethod
from adaface.evaluation.methods.entry_point import EntryPointMethod
from adaface.evaluation.methods.teacher import TeacherMethod

if TYPE_CHECKING:
    from adaface.evaluation.config import GenerationConfig, MethodConfig


def open_method(config: MethodConfig, generation: GenerationConfig) -> Method:
    """Load a method. All methods over one base model, device and precision share it while any of them is held.

    Raises ValueError and FileNotFoundError for what is not there or does not fit.
    """
    if config.kind == "entry_point":
        return EntryPointMethod(config, generation)
    base = BasePipe.shared(generation.base, generation.device, generation.precision)
    match config.kind:
        case "class_word":
            return ClassWordMethod(config.name, base, generation)
        case "teacher":
            return TeacherMethod(config, base, generation)
        case "encoder":
            return EncoderMethod(config, base, generation)
