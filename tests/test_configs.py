"""The shipped configurations load, and their comments tell the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from data_pipeline.config import PROFILES
from ray_jobs.config import DatasetConfig
from ray_jobs.config_file import load
from ray_jobs.distill_config import DistillConfig
from ray_jobs.evaluate_config import EvaluateConfig

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_configuration_is_valid(path):
    job = path.stem.partition("-")[0]
    config = load({"evaluate": EvaluateConfig, "distill": DistillConfig}.get(job, DatasetConfig), path)
    if isinstance(config, DatasetConfig):
        assert config.data.sources and config.perception.pack
    again = type(config).model_validate(config.model_dump(mode="json"))
    assert again == config


def test_the_template_states_the_thresholds_of_its_profile():
    """Commented lines of configs/faces.yaml such as `# min_face: 64` are what the profile does without them."""
    text = next(path for path in CONFIGS if path.name == "faces.yaml").read_text(encoding="utf-8")
    assert load(DatasetConfig, next(path for path in CONFIGS if path.name == "faces.yaml")).data.profile == "strict"
    stated = {
        key: yaml.safe_load(value)
        for key, value in re.findall(r"^  # (\w+): (\S+) +#", text, flags=re.MULTILINE)
        if key in PROFILES["strict"]
    }
    assert len(stated) >= 10
    assert stated == {key: PROFILES["strict"][key] for key in stated}
