"""Prodigy and AdamW: what they are built over, what they say of themselves, and that they resume exactly."""

from __future__ import annotations

import builtins
import copy
import io

import pytest
import torch
from torch import nn

from adaface.distill.optimizer import OptimizerSettings, build_optimizer, clip_gradients, rates, set_rate
from adaface.distill.schedule import ScheduleSettings, rate_factor

pytest.importorskip("prodigyopt", reason="needs prodigyopt")
X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = torch.sin(X.sum(dim=1, keepdim=True))
SCHEDULE = ScheduleSettings(warmup=10)


def network() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net


def train(net: nn.Module, optimizer: torch.optim.Optimizer, settings: OptimizerSettings, steps: range) -> list[float]:
    losses = []
    for step in steps:
        set_rate(optimizer, settings.first_rate * rate_factor(step, 300, SCHEDULE))
        loss = (net(X) - Y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        clip_gradients(net.parameters(), settings.clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    "settings", [OptimizerSettings(), OptimizerSettings(name="adamw", rate=1e-2)], ids=["prodigy", "adamw"]
)
def test_it_learns_through_a_warmup(settings):
    net = network()
    optimizer = build_optimizer(net.parameters(), settings)
    losses = train(net, optimizer, settings, range(300))
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("settings", [OptimizerSettings(), OptimizerSettings(name="adamw")], ids=["prodigy", "adamw"])
def test_the_next_steps_of_a_restored_one_have_the_same_bits(settings):
    net = network()
    optimizer = build_optimizer(net.parameters(), settings)
    train(net, optimizer, settings, range(25))
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    at_25 = copy.deepcopy(rates(optimizer))
    went_on = train(net, optimizer, settings, range(25, 45))

    file.seek(0)
    stored = torch.load(file, weights_only=True)
    fresh = network()
    fresh.load_state_dict(stored["net"])
    again = build_optimizer(fresh.parameters(), settings)
    again.load_state_dict(stored["optimizer"])
    assert rates(again) == at_25
    assert train(fresh, again, settings, range(25, 45)) == went_on
    assert all(map(torch.equal, net.state_dict().values(), fresh.state_dict().values()))
    assert rates(again) == rates(optimizer)


def test_it_says_its_learning_rate():
    net, settings = network(), OptimizerSettings()
    optimizer = build_optimizer(net.parameters(), settings)
    assert rates(optimizer) == {"rate": 1.0, "effective_rate": 1e-6, "d": 1e-6}
    train(net, optimizer, settings, range(60))
    said = rates(optimizer)
    assert said["d"] > 1e-4 and said["effective_rate"] == said["d"] * said["rate"]
    adamw = build_optimizer(net.parameters(), OptimizerSettings(name="adamw"))
    assert rates(adamw) == {"rate": 1e-4, "effective_rate": 1e-4}


def test_only_what_is_trained_is_in_it():
    net = network()
    net[0].requires_grad_(False)
    optimizer = build_optimizer(net.parameters(), OptimizerSettings())
    assert [parameter.shape for parameter in optimizer.param_groups[0]["params"]] == [(1, 12), (1,)]
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer(net.parameters(), OptimizerSettings())


def test_gradients_are_clipped_together():
    net = network()
    (100 * net(X)).sum().backward()
    before = [parameter.grad.clone() for parameter in net.parameters()]
    norm = clip_gradients(net.parameters(), 0.5)
    assert norm == pytest.approx(torch.cat([grad.flatten() for grad in before]).norm().item(), rel=1e-5)
    after = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    assert after.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert clip_gradients(net.parameters(), 0.6) == pytest.approx(0.5, rel=1e-4)  # small ones stay
    assert torch.equal(after, torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))


def test_gradients_that_are_not_finite_stay_as_they_are():
    net = network()
    net(X).sum().backward()
    kept = net[2].weight.grad.clone()
    net[0].weight.grad[0, 0] = float("nan")
    assert clip_gradients(net.parameters(), 1e-3) != clip_gradients(net.parameters(), 1e-3)  # nan
    assert torch.equal(net[2].weight.grad, kept)


def test_a_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name: str, *rest, **more):
        if name == "prodigyopt":
            raise ModuleNotFoundError("No module named 'prodigyopt'", name=name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install prodigyopt==1\.1\.2, or choose the optimizer adamw"):
        build_optimizer(network().parameters(), OptimizerSettings())


def test_settings_name_everything_that_is_wrong():
    with pytest.raises(ValueError) as error:
        OptimizerSettings(name="sgd", rate=0, betas=(0.9, 1.0), clip=-1, weight_decay=-0.1, d_growth=1.0)  # type: ignore[arg-type]
    assert all(name in str(error.value) for name in ("name", "rate", "betas", "clip", "weight_decay", "d_growth"))
    optimizer = build_optimizer(network().parameters(), OptimizerSettings())
    with pytest.raises(ValueError, match="above 0"):
        set_rate(optimizer, 0.0)
