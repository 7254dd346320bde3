"""Whether there is anything to evaluate: asked every night, mostly in vain, and so without loading a network."""

from __future__ import annotations

from dataclasses import dataclass

from adaface.evaluation.history import Finding, recorded_failures
from adaface.evaluation.methods.encoder import newest_encoder
from adaface.evaluation.preflight import problems, stands_for_a_folder
from ray_jobs.config_file import ConfigError
from ray_jobs.evaluate_config import EncoderPath, EvaluateConfig, with_encoders
from ray_jobs.evaluate_history import encoder_names, read_history, what_is_run
from ray_jobs.evaluate_input import fetched_if_there


@dataclass(frozen=True)
class News:
    """What a schedule goes by.

    Attributes:
        waiting: a sentence for each encoder that nobody has trained yet.
        known: the names of the encoders where every one of them was evaluated under this protocol before; None where
            there is something to do.
        failures: what the last runs of the known encoders failed with.
    """

    waiting: list[str]
    known: list[str] | None = None
    failures: tuple[Finding, ...] = ()


def news_of(config: EvaluateConfig) -> News:
    """Raises ConfigError with everything that is wrong, as far as it is seen without a network; that a folder holds no
    encoder yet is not wrong."""
    here = with_encoders(config, fetched_if_there)
    waiting = {}
    for method in here.methods:
        if method.kind == "encoder" and (said := _nothing_there(method.path)):
            waiting[method.name] = f"{method.name}: {said}"
    there = [method for method in here.methods if method.name not in waiting]
    if wrong := problems(here.model_copy(update={"methods": there})):
        raise ConfigError(wrong)
    if waiting:
        return News(list(waiting.values()))
    protocol, files = what_is_run(config)
    history, names = read_history(config), encoder_names(config)
    seen = {(row["method"], row["method_hash"]) for row in history if row["protocol_hash"] == protocol}
    if not all((name, files[name]) in seen for name in names):
        return News([])
    failures = recorded_failures(history, protocol_hash=protocol, methods=names, method_hashes=files)
    return News([], names, tuple(failures))


def _nothing_there(path: EncoderPath) -> str | None:
    """Why there is no encoder in a folder, or folders, where one will be; a name of the hub is none."""
    if isinstance(path, str) and not stands_for_a_folder(path):
        return None
    try:
        newest_encoder(path)
    except FileNotFoundError as error:
        return str(error)
    except ValueError:  # there is one, and something is wrong with it: `problems` will say what
        return None
    return None
