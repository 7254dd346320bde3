"""The device that a name stands for."""

import pytest
import torch

from adaface.distill.benchmarks.__main__ import main as benchmark
from adaface.distill.benchmarks.dry_run import main as dry_run
from adaface.miniature.train import main as train
from adaface.models.device import chosen_device
from adaface.subjects.generate import load_base

BASE = "package://adaface.miniature/weights/sd"
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_auto_is_the_gpu_where_there_is_one():
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", ""])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match=r"no device .* set `--device` to auto, cpu or cuda"):
        chosen_device(name, "--device")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", f"cuda:{torch.cuda.device_count()}"])
def test_a_device_that_is_not_there_is_refused(name):
    if name != f"cuda:{torch.cuda.device_count()}" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=rf"`{name}`, which torch does not see; set `here` to auto or cpu"):
        chosen_device(name, "here")


@no_gpu
def test_a_pipeline_is_not_loaded_for_nothing():
    with pytest.raises(ValueError, match="which torch does not see"):
        load_base(BASE, device="cuda")


@no_gpu
@pytest.mark.parametrize("command", [(dry_run,), (benchmark, "--stage", "1"), (train, "vae")])
def test_commands_say_that_there_is_none(command, capsys):
    main, *arguments = command
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--device", "cuda"])
    assert end.value.code == 2
    assert "set `--device` to auto or cpu" in capsys.readouterr().err
