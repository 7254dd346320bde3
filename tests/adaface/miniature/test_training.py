"""The training loop: resumed runs equal undisturbed ones, averages, schedules."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from adaface.miniature.training import Schedule, Task, Trainer


class Line(Task):
    """Learn y = 3 x - 1 from noisy points."""

    name = "line"
    schedule = Schedule(steps=40, batch=16, lr=0.1, warmup=5, ema=0.9)

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.modules = {"net": self.net}

    def loss(self, batch: int, rng: np.random.Generator, generator: torch.Generator):
        x = torch.from_numpy(rng.uniform(-1, 1, (batch, 1))).float()
        y = 3 * x - 1 + 0.01 * torch.randn(x.shape, generator=generator)
        return (self.net(x) - y).square().mean(), {}

    def evaluate(self) -> dict[str, float]:
        x = torch.linspace(-1, 1, 50)[:, None]
        return {"error": float((self.net(x) - (3 * x - 1)).detach().abs().mean())}

    def export(self, folder: Path) -> None:
        raise NotImplementedError

    def load(self, folder: Path) -> None:
        raise NotImplementedError


def trained(folder: Path, *stops: int) -> Trainer:
    """Run to each of the stops in a trainer of its own, as a killed and restarted job does."""
    for stop in stops:
        task = Line()
        task.schedule = replace(task.schedule)
        trainer = Trainer(task, folder, seed=1, device=torch.device("cpu"))
        trainer.run(until=stop)
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in trainer.task.modules["net"].state_dict().items()}


def test_it_learns(tmp_path):
    trainer = trained(tmp_path, 40)
    trainer.use_average()
    assert trainer.task.evaluate()["error"] < 0.5
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 1


def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path):
    whole, resumed = trained(tmp_path / "a", 40), trained(tmp_path / "b", 7, 23, 40)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    whole.use_average(), resumed.use_average()
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_the_average_lags_behind(tmp_path):
    trainer = trained(tmp_path, 40)
    last = weights(trainer)
    trainer.use_average()
    assert any(not torch.equal(last[name], tensor) for name, tensor in weights(trainer).items())


def test_another_seed_is_refused(tmp_path):
    trained(tmp_path, 10)
    with pytest.raises(ValueError, match="belongs to a run with seed 1, not 2"):
        Trainer(Line(), tmp_path, seed=2, device=torch.device("cpu"))


def test_a_checkpoint_that_was_not_finished_is_not_taken(tmp_path):
    trained(tmp_path, 10)
    (tmp_path / "checkpoint.tmp").write_bytes(b"half")
    assert Trainer(Line(), tmp_path, seed=1, device=torch.device("cpu")).step == 10


def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path):
    task = Line()
    task.loss = lambda *_: ((task.net(torch.ones(2, 1)) * float("nan")).mean(), {})
    with pytest.raises(FloatingPointError, match="line: the gradient is not finite at step 0"):
        Trainer(task, tmp_path, seed=1, device=torch.device("cpu")).run()


def test_the_learning_rate_rises_stays_and_falls():
    schedule = Schedule(steps=1000, batch=1, lr=2.0, warmup=100, decay=0.3)
    assert schedule.lr_at(0) == pytest.approx(0.02)
    assert schedule.lr_at(99) == schedule.lr_at(500) == schedule.lr_at(700) == 2.0
    assert schedule.lr_at(850) == pytest.approx(1.0)
    assert schedule.lr_at(999) == pytest.approx(2 / 300)
    # more steps change nothing before the fall
    longer = replace(schedule, steps=2000)
    assert all(longer.lr_at(step) == schedule.lr_at(step) for step in range(700))


def test_two_workers_share_the_work(tmp_path):
    """Under torchrun each process takes half of the batch; both end with the same weights."""
    import json
    import subprocess
    import sys

    script = tmp_path / "two.py"
    script.write_text(
        "import json, sys, torch\n"
        "from pathlib import Path\n"
        f"sys.path[:0] = [{str(Path(__file__).parents[3])!r}, {str(Path(__file__).parent)!r}]\n"
        "from test_training import Line\n"
        "from adaface.miniature.training import Trainer\n"
        "t = Trainer(Line(), Path(sys.argv[1]), seed=1, device=torch.device('cpu'))\n"
        "t.run()\n"
        "w = [p.detach().flatten().tolist() for p in t.task.net.parameters()]\n"
        "Path(sys.argv[1], f'rank{t.rank}.json').write_text(json.dumps([t.workers, w]))\n"
        "torch.distributed.destroy_process_group()\n"
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(script),
        str(tmp_path),
    ]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    (count, one), (_, two) = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert count == 2 and one == two
