"""Golden cases 7a (what belongs to training steps) and 8: timesteps, schedules, rollouts, Prodigy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adaface.distill.anneal import annealed, around
from adaface.distill.noise_schedule import NoiseSchedule
from adaface.distill.optimizer import OptimizerSettings, build_optimizer, clip_gradients, set_rate
from adaface.distill.rollout import teacher_rollout
from adaface.distill.schedule import ScheduleSettings, original_factor, rate_factor
from adaface.distill.timesteps import next_timesteps, range_around
from tests.adaface.encoder.golden_files import EXACT, Check, Golden

CASE7A = "case7a_schedules_and_noise.safetensors"
RELATIVE = 1e-5  # of the largest value in a column


def timesteps(folder: Path) -> Iterator[Check]:
    """Timesteps that are drawn once more, kept or not, from seeds; annealed values and ranges."""
    golden = Golden(folder, CASE7A)
    t = golden["anneal_t/in/t"]
    for entry in golden.entry["notes"]["anneal_t"]:
        progress, keep = entry["training_percent"], entry["keep_prob_range"]
        found = t
        if random.Random(entry["seed"]).random() >= annealed(progress, *keep):
            draws = np.random.RandomState(entry["seed"])
            lowest, highest = range_around(t, tuple(entry["ratio_range"]))
            found = torch.from_numpy(draws.randint(lowest.numpy(), highest.numpy() + 1))
        yield Check(f"timesteps {entry['key']}", found, golden[f"anneal_t/out/{entry['key']}"], EXACT)
    for progress, end, first, last, value in golden["anneal_value/table"].tolist():
        if end == 1 or progress >= end:
            found_value = annealed(progress / end, first, last)
            yield Check(f"annealed {progress}", torch.tensor(found_value), torch.tensor(value))
    for seed, progress, value in golden["rand_annealed/table"].tolist():
        share = np.random.RandomState(int(seed)).random_sample()
        found_value = around(annealed(progress, 0.1, 0.5), share)
        yield Check(f"around {progress}", torch.tensor(found_value), torch.tensor(value))


def diffusion(folder: Path) -> Iterator[Check]:
    """Noise schedule, noisy latents, clean latents from predicted noise."""
    golden = Golden(folder, CASE7A)
    schedule, at = NoiseSchedule.sd15(), golden["diffusion/t"]
    yield Check("alphas_cumprod", schedule.alphas_cumprod[at], golden["diffusion/alphas_cumprod"], 1e-12)
    x, t, noise = (golden[f"diffusion/in/{name}"] for name in ("x0", "t", "noise"))
    x_t = schedule.q_sample(x, t, noise)
    yield Check("x_t", x_t, golden["diffusion/out/x_t"])
    # values up to hundreds where t is high
    found, expected = schedule.x_start_of(x_t, t, 0.5 * noise), golden["diffusion/out/x0_from_halfnoise"]
    yield Check("x0 from half the noise", found / expected.abs().max(), expected / expected.abs().max(), RELATIVE)


def rollouts(folder: Path) -> Iterator[Check]:
    """The teacher's denoising steps with re-noising: predictions, clean latents, timesteps."""
    golden = Golden(folder, CASE7A)
    x, noise, t, context = (golden[f"multistep/in/{name}"] for name in ("x0", "noise", "t", "context"))
    schedule = NoiseSchedule.sd15()

    def predict(x_t: Tensor, at: Tensor) -> Tensor:
        return 0.5 * torch.tanh(x_t) + (context.mean(dim=(1, 2)) + at / 2000)[:, None, None, None]

    for steps in (1, 3, 5):
        expected = golden.below(f"multistep/out/{steps}steps_")
        x_start, at, drawn = x, t, noise
        for step in range(steps):
            if step:
                at = next_timesteps(at, steps, golden[f"multistep/in/{steps}steps_rel_t_draw{step - 1}"])
                drawn = expected[f"noise{step}"]
            # one step at a time: the original's draws are given, and a rollout makes its own
            [done] = teacher_rollout(predict, schedule, x_start, at, drawn, 1)
            x_start = done.denoised
            scale = max(1.0, expected[f"pred_x0_{step}"].abs().max().item())
            name = f"{steps} steps, step {step}"
            yield Check(f"{name}: t", done.t, expected[f"t{step}"], EXACT)
            yield Check(f"{name}: noise", done.target, expected[f"noise_pred{step}"])
            yield Check(f"{name}: clean", done.denoised / scale, expected[f"pred_x0_{step}"] / scale, RELATIVE)


def learning_rates(folder: Path) -> Iterator[Check]:
    """The original's learning rate over both stages, as meant and as in effect."""
    golden = Golden(folder, CASE7A)
    for name, table in golden.below("lr/").items():
        maximum, warmup = (int(part.lstrip("maxwr")) for part in name.split("_")[1:])
        found = [original_factor(int(step), maximum, warmup) for step in table[:, 0]]
        yield Check(name, torch.tensor(found, dtype=torch.float64), table[:, 1], 1e-9)
    for stage, steps, maximum, warmup in (("s1", 60_000, 120_000, 600), ("s2", 30_000, 60_000, 1000)):
        table = golden[f"lr/{stage}_max{maximum}_warm{warmup}"]
        settings = ScheduleSettings(warmup=warmup, shape="original")
        found = [rate_factor(int(step), steps, settings) for step in table[:, 0]]
        yield Check(f"{stage} in effect", torch.tensor(found, dtype=torch.float64), table[:, 1], 1e-9)


def prodigy(folder: Path) -> Iterator[Check]:
    """Sixty steps of Prodigy with clipped gradients: loss, norm, learning rate, d and its parts; last weights."""
    golden = Golden(folder, "case8_prodigy.safetensors")
    run = golden.entry["settings"]
    for name, options in golden.entry["configs"].items():
        settings = OptimizerSettings(
            betas=tuple(options["betas"]),
            weight_decay=options["weight_decay"],
            d_coefficient=options["d_coef"],
            safe_warmup=options["safeguard_warmup"],
            clip=run["grad_clip_norm"],
        )
        net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
        net.load_state_dict(golden.below("in/init/"))
        optimizer = build_optimizer(net.parameters(), settings)
        rows = []
        for step in range(run["steps"]):
            set_rate(optimizer, original_factor(step, run["max_steps"], run["warmup"]))
            loss = (net(golden["in/X"]) - golden["in/Y"]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            norm = clip_gradients(net.parameters(), settings.clip)
            optimizer.step()
            group = optimizer.param_groups[0]
            rows.append([loss.item(), norm, *(group[key] for key in ("lr", "d", "d_max", "d_numerator", "d_denom"))])
        found, expected = torch.tensor(rows, dtype=torch.float64), golden[f"{name}/trajectory"]
        columns = ("loss", "gradient norm", "learning rate", "d", "largest d", "numerator", "denominator")
        for place, column in enumerate(columns):
            scale = expected[:, place].abs().max()
            yield Check(f"{name}: {column}", found[:, place] / scale, expected[:, place] / scale, RELATIVE)
        for key, weight in golden.below(f"{name}/final/").items():
            yield Check(f"{name}: {key}", net.state_dict()[key], weight)
