"""The recipes of CLIP, VAE, Stable Diffusion, teacher and classifier, on a handful of pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaface.encoder.teacher import teacher_states
from adaface.miniature.networks.clip import load_clip
from adaface.miniature.networks.diffusion import load_sd, load_teacher
from adaface.miniature.networks.vae import load_vae, to_images, to_tensor
from adaface.miniature.pictures.portraits import _pictures, person_at, scene_at
from adaface.miniature.recipes.clip import ClipTask, _questions
from adaface.miniature.recipes.diffusion import StableDiffusionTask
from adaface.miniature.recipes.factors import FactorsTask
from adaface.miniature.recipes.names import FirstNamesTask
from adaface.miniature.recipes.teacher import FirstTeacherTask, TeacherTask
from adaface.miniature.recipes.vae import VaeTask, pixel_weights
from adaface.miniature.train import ORDER, make_task
from adaface.miniature.training import Task, Trainer
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import VOCABULARY, Scene

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures() -> list[dict[str, np.ndarray]]:
    """[plain, scenes]: 8 people x 3 plain photographs, 12 people x 2 scenes."""
    rng = np.random.default_rng(0)
    people = [Identity.sample(rng) for _ in range(20)]
    plain = _pictures(rng, people[:8], [lambda: Scene()] * 3)
    return [plain, _pictures(rng, people[8:], [lambda: Scene.sample(rng)] * 2)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, pictures) -> Path:
    """Exports of untrained models: what the later recipes build on."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for kind in (ClipTask, VaeTask):
        make(kind, folder, pictures).export(folder)
    for kind in (StableDiffusionTask, FirstTeacherTask):
        make(kind, folder, pictures).export(folder)
    return folder


def make(kind: type[Task], weights: Path, pictures: list) -> Task:
    task = kind(weights / "no-data", weights, CPU)
    rng = np.random.default_rng(1)
    task.sets = pictures
    task.latents = [rng.normal(size=(len(p["image"]), 4, 16, 16)).astype(np.float16) for p in pictures]
    task.identities = rng.normal(size=(len(pictures[0]["image"]), 64)).astype(np.float16)
    return task


def test_rows_give_back_who_and_where(pictures):
    plain, scenes = pictures
    assert all(scene_at(plain, row) == Scene() for row in range(24))
    for row in range(0, 24, 2):
        assert person_at(scenes, row) == person_at(scenes, row + 1)
        assert scene_at(scenes, row).factors().tolist() == scenes["scene"][row].tolist()


@pytest.mark.parametrize(
    "kind", [VaeTask, ClipTask, FactorsTask, StableDiffusionTask, FirstTeacherTask, FirstNamesTask, TeacherTask]
)
def test_a_few_steps_lower_the_loss_and_reach_every_weight(kind, weights, pictures, tmp_path):
    task = make(kind, weights, pictures)
    task.schedule = replace(task.schedule, steps=12, batch=8, warmup=2)
    before = {n: p.detach().clone() for m in task.modules.values() for n, p in m.named_parameters()}

    def loss_now() -> float:
        with torch.no_grad():
            draws = (np.random.default_rng(n) for n in range(4))
            return float(np.mean([float(task.loss(8, d, torch.Generator().manual_seed(0))[0]) for d in draws]))

    first = loss_now()
    Trainer(task, tmp_path, seed=0, device=CPU).run()
    assert loss_now() < first
    still = [n for m in task.modules.values() for n, p in m.named_parameters() if torch.equal(p, before[n])]
    # the position of the image's class token and such are moved too; nothing is left out of the optimiser
    assert still == [], still


def test_all_chance_of_a_loss_comes_from_what_it_is_given(weights, pictures):
    for kind in (VaeTask, ClipTask, StableDiffusionTask, FirstTeacherTask, FirstNamesTask, TeacherTask):
        task = make(kind, weights, pictures)
        with torch.no_grad():
            losses = [
                float(task.loss(6, np.random.default_rng(s), torch.Generator().manual_seed(s))[0]) for s in (1, 1, 2)
            ]
        assert losses[0] == losses[1] != losses[2], kind


def test_exports_load_with_the_plain_calls_and_are_what_was_trained(weights):
    vae, (clip, tokenizer), pipe = load_vae(weights), load_clip(weights), load_sd(weights)
    assert vae.config.block_out_channels == (24, 48, 96) or list(vae.config.block_out_channels) == [24, 48, 96]
    assert tokenizer.model_max_length == 77 and clip.config.text_config.hidden_size == 128
    pipe.set_progress_bar_config(disable=True)
    images = pipe(["a photo of a man", "a photo of a woman"], num_inference_steps=2, output_type="np").images
    assert images.shape == (2, 64, 64, 3)
    assert pipe.scheduler.config.beta_schedule == "scaled_linear" and pipe.unet.config.cross_attention_dim == 128


@pytest.mark.parametrize("kind", [FirstTeacherTask, TeacherTask])
def test_a_teacher_starts_as_stable_diffusion_and_comes_back_from_its_export(kind, weights, pictures, tmp_path):
    task = make(kind, weights, pictures)
    pipe = load_sd(weights)
    for name, tensor in pipe.unet.state_dict().items():
        assert torch.equal(tensor, task.unet.state_dict()[name])
    (tmp_path / "clip").symlink_to(weights / "clip")
    task.export(tmp_path)
    unet, text, _ = load_teacher(tmp_path)
    assert torch.equal(unet.conv_in.weight, task.unet.conv_in.weight)
    assert text.config.hidden_size == 128


def test_the_last_teacher_aims_between_the_noise_and_what_the_first_one_says(weights, pictures):
    task = make(TeacherTask, weights, pictures)
    first = task.first_text.state_dict()
    assert all(torch.equal(tensor, first[name]) for name, tensor in task.text.state_dict().items())
    told, t = np.array([3, 7, -1]), torch.tensor([100, 500, 900])
    noisy, noise = torch.randn(2, 3, 4, 16, 16).unbind(0)
    with torch.no_grad():
        answers = task.first(noisy, t, task.states(task.first_text, told)).sample
        aim = task.target(noisy, t, noise, told)
        nothing, somebody = task.states(task.first_text, np.array([-1, 0]))
    torch.testing.assert_close(aim, (noise + answers) / 2, atol=0.02, rtol=0)  # the answers come in bfloat16
    assert not torch.allclose(aim, noise, atol=0.1) and not torch.allclose(nothing, somebody)


def test_names_are_learned_from_between_stable_diffusion_and_the_teacher(weights, pictures, tmp_path):
    teacher = load_teacher(weights)[0].state_dict()
    for tensor in teacher.values():
        tensor.add_(0.5)
    unet = load_teacher(weights)[0]
    unet.load_state_dict(teacher)
    (tmp_path / "weights" / "teacher").mkdir(parents=True)
    for name in ("clip", "sd", "teacher/text_encoder"):
        (tmp_path / "weights" / name).symlink_to(weights / name)
    unet.save_pretrained(tmp_path / "weights" / "teacher" / "unet")
    before, task = load_sd(weights).unet.state_dict(), make(FirstNamesTask, tmp_path / "weights", pictures)
    for name, tensor in task.unet.state_dict().items():
        assert torch.allclose(tensor, 0.3 * before[name] + 0.7 * teacher[name], atol=1e-6), name


def test_names_are_learned_from_the_teachers_answers_to_portraits(weights, pictures):
    task, rows = make(FirstNamesTask, weights, pictures), np.array([0, 5, 7])
    generator = torch.Generator().manual_seed(0)
    noisy, noise = (torch.randn(5, 4, 16, 16, generator=generator) for _ in range(2))
    t = torch.tensor([999, 500, 20, 500, 20])
    goal = task.target(noisy, t, noise, rows)
    unet, text, tokenizer = load_teacher(weights)
    states = teacher_states(text, tokenizer, torch.from_numpy(task.identities[[0, 1, 2]]).float())
    with torch.no_grad():
        answers = unet(noisy[:3], t[:3], states).sample
    assert torch.allclose(goal[:3], answers, atol=0.02)  # bf16 where the machine has it
    assert torch.equal(goal[3:], noise[3:])


def test_a_quarter_of_the_portraits_is_shown_as_the_teacher_sees_them(weights, pictures):
    task, rows = make(FirstNamesTask, weights, pictures), np.array([0, 5, 7, 9, 1, 2, 3, 4])
    states = torch.zeros(12, 77, 128)
    shown = task.shown(states, rows)
    _, text, tokenizer = load_teacher(weights)
    wanted = teacher_states(text, tokenizer, torch.from_numpy(task.identities[[0, 1]]).float())
    assert torch.allclose(shown[:2], wanted, atol=1e-5) and torch.equal(shown[2:], states[2:])


def test_missing_weights_say_which_recipe_makes_them(tmp_path):
    for load, name in ((load_vae, "vae"), (load_clip, "clip"), (load_sd, "sd"), (load_teacher, "teacher")):
        with pytest.raises(FileNotFoundError, match=f"python -m adaface.miniature.train {name}"):
            load(tmp_path)


def test_questions_differ_in_the_word_of_their_factor_alone():
    rng = np.random.default_rng(3)
    for factor, words in VOCABULARY.items():
        for _ in range(20):
            texts = _questions(factor, rng)
            assert len(set(texts)) == len(words), texts
            # what all have in common is said of a person of one class word
            assert all(("glasses" in text) == ("glasses" in word) for text, word in zip(texts, words, strict=True))


def test_features_of_a_face_weigh_most(pictures):
    weights = pixel_weights(pictures[0]["classes"][:4])
    assert weights.shape == (4, 1, 64, 64) and weights.dtype == np.float32
    classes = pictures[0]["classes"][:4, None]
    assert (
        (weights[classes == 4] == 4).all()
        and (weights[classes == 0] == 1).all()
        and (weights[classes == 1] == 1.5).all()
    )


def test_pixels_survive_the_way_there_and_back(pictures):
    images = pictures[1]["image"]
    tensor = to_tensor(images, CPU)
    assert tensor.shape == (24, 3, 64, 64) and tensor.min() >= -1 and tensor.max() <= 1
    assert np.array_equal(to_images(tensor), images)


def test_every_name_of_the_order_has_a_task(weights):
    for name in ORDER:
        if not name.startswith(("sd", "teacher", "names")):
            assert make_task(name, weights / "no-data", weights, CPU).name == name
