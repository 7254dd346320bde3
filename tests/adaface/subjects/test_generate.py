"""Photos and prompts -> a folder of pictures, through the command."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image

from adaface.subjects.generate import GenerateSettings, generate, grid
from adaface.subjects.prompt_states import ORIGINAL_NEGATIVE
from flows.cli import main
from tests.adaface.subjects.tiny_pipelines import SIDE, build_encoder, build_parts
from tests.tiny_world import make_pack, make_photos

WIDTH = 192  # as wide as the embeddings of the tiny recogniser


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """base/, encoder/, pack/, photos/person-00/..."""
    folder = tmp_path_factory.mktemp("world")
    base = StableDiffusionPipeline(**build_parts(width=WIDTH), requires_safety_checker=False)
    base.save_pretrained(folder / "base")
    build_encoder(width=WIDTH, id_dim=WIDTH).save_pretrained(folder / "encoder")
    make_pack(folder / "pack")
    make_photos(folder / "photos", people=2, each=2)
    return folder


def command(world, out, *more, prompts=("z riding a horse",)) -> list[str]:
    said = [part for prompt in prompts for part in ("--prompt", prompt)]
    return [
        "generate", "--encoder", str(world / "encoder"), "--images", str(world / "photos" / "person-00"),
        "--base", str(world / "base"), "--face-pack", str(world / "pack"), "--out", str(out), "--device", "cpu",
        "--steps", "3", *said, *more,
    ]  # fmt: skip


def pixels(folder, name) -> np.ndarray:
    with Image.open(folder / "images" / name) as image:
        return np.asarray(image).astype(int)


def test_the_command_writes_pictures_grid_and_settings(world, tmp_path, capsys):
    out = tmp_path / "made" / "anna"
    more = ["--images-per-prompt", "3", "--batch", "2", "--seed", "7", "--noise", "0.05", "--id-scale", "1.5"]
    assert main(command(world, out, *more, prompts=("z riding a horse", "(smiling:1.2)"))) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == str(out)
    told = [line for line in shown.err.splitlines() if line.startswith("images ")]
    assert told == ["images 2 of 6", "images 4 of 6", "images 6 of 6"]
    names = [f"{row:02d}-seed{seed}.png" for row in (0, 1) for seed in (7, 8, 9)]
    assert sorted(path.name for path in (out / "images").iterdir()) == names
    assert sorted(path.name for path in out.iterdir()) == ["grid.png", "images", "settings.json"]
    assert [path.name for path in out.parent.iterdir()] == ["anna"]
    with Image.open(out / "grid.png") as sheet:
        assert sheet.size == (3 * SIDE, 2 * SIDE)
        assert np.array_equal(np.asarray(sheet)[SIDE:, SIDE : 2 * SIDE], pixels(out, "01-seed8.png"))
    record = json.loads((out / "settings.json").read_text())
    assert record["images"][4] == {"file": "images/01-seed8.png", "prompt": "(smiling:1.2)", "seed": 8}
    assert record["settings"]["guidance"] == [4.0, 1.0] and record["settings"]["negative_prompt"] == ORIGINAL_NEGATIVE
    assert record["settings"]["id_scale"] == 1.5 and record["scheduler"]["class"] == "DDIMScheduler"
    weights = (world / "encoder" / "adaface.safetensors").read_bytes()
    assert record["encoder_sha256"] == hashlib.sha256(weights).hexdigest()
    assert set(record["versions"]) == {"adaface", "torch", "diffusers", "transformers"}
    assert len(record["photos"]) == 2
    # and from what is written there the same is made again
    settings = record["settings"] | {"out": str(tmp_path / "again")}
    again = generate(GenerateSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}))
    assert all(np.array_equal(pixels(out, name), pixels(again, name)) for name in names)


def test_in_a_folder_of_runs_the_newest_encoder_draws(world, tmp_path):
    runs = tmp_path / "runs"
    for name in ("stage1", "stage2/checkpoint_00000020", "stage2/checkpoint_00000100"):
        shutil.copytree(world / "encoder", runs / name / "encoder")
    assert main([*command(world, tmp_path / "out", "--images-per-prompt", "1"), "--encoder", str(runs)]) == 0
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())["settings"]
    assert settings["encoder"] == str(runs / "stage2" / "checkpoint_00000100" / "encoder")


def test_an_image_depends_on_its_seed_and_not_on_the_batch(world, tmp_path):
    one, many, alone = (tmp_path / name for name in ("one", "many", "alone"))
    assert main(command(world, one, "--images-per-prompt", "4", "--batch", "1")) == 0
    assert main(command(world, many, "--images-per-prompt", "4", "--batch", "3")) == 0
    assert main(command(world, alone, "--images-per-prompt", "1", "--seed", "44")) == 0
    for seed in range(42, 46):
        name = f"00-seed{seed}.png"
        assert abs(pixels(one, name) - pixels(many, name)).max() <= 1  # batches round differently
    assert abs(pixels(alone, "00-seed44.png") - pixels(one, "00-seed44.png")).max() <= 1
    assert abs(pixels(one, "00-seed42.png") - pixels(one, "00-seed43.png")).max() > 20


def test_the_person_and_the_settings_count(world, tmp_path):
    assert main(command(world, tmp_path / "a", "--images-per-prompt", "1")) == 0
    other = command(world, tmp_path / "b", "--images-per-prompt", "1")
    other[other.index("--images") + 1] = str(world / "photos" / "person-01")
    assert main(other) == 0
    assert main(command(world, tmp_path / "c", "--images-per-prompt", "1", "--guidance", "4")) == 0
    a, b, c = (pixels(tmp_path / name, "00-seed42.png") for name in "abc")
    assert not np.array_equal(a, b) and not np.array_equal(a, c)


def test_from_an_image(world, tmp_path):
    Image.new("RGB", (40, 20), "orange").save(tmp_path / "init.png")
    init = ["--init", str(tmp_path / "init.png"), "--images-per-prompt", "2", "--steps", "5"]
    assert main(command(world, tmp_path / "weak", *init, "--strength", "0.2")) == 0
    assert main(command(world, tmp_path / "strong", *init, "--strength", "0.8")) == 0
    weak, strong = (pixels(tmp_path / name, "00-seed43.png") for name in ("weak", "strong"))
    assert weak.shape == (SIDE, SIDE, 3) and not np.array_equal(weak, strong)
    assert (
        json.loads((tmp_path / "weak" / "settings.json").read_text())["pipeline"] == "StableDiffusionImg2ImgPipeline"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--images", "{}/photos"], "no photos in this folder"),
        (["--images", "{}/nowhere.jpg"], "no such file"),
        (["--init", "{}/nowhere.png"], "no such file"),
        (["--encoder", "{}/base"], "config.json"),
        (["--base", "{}/nowhere"], "no such file or folder"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--guidance", "1", "4"], "guidance cannot go"),
        (["--guidance", "1", "2", "3"], "guidance must be two scales"),
        (["--init", "x.png", "--strength", "0.1"], "leave none"),
        (["--prompt", " "], "no empty one"),
        (["--prompt", "horse " * 80], "too long"),
        (["--token", "a b"], "one word"),
    ],
)
def test_bad_input_leaves_nothing(world, tmp_path, capsys, change, message):
    more = [part.format(world) for part in change]
    assert main(command(world, tmp_path / "out", *more)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_exists_is_not_overwritten(world, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert main(command(world, tmp_path / "out", "--images-per-prompt", "1")) == 0  # an empty folder is fine
    before = (tmp_path / "out" / "settings.json").read_bytes()
    assert main(command(world, tmp_path / "out")) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert (tmp_path / "out" / "settings.json").read_bytes() == before


def test_a_photo_without_a_face_is_named(world, tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    photo = world / "photos" / "person-00" / "000.jpg"
    assert main(command(world, tmp_path / "out", "--images", str(photo), str(tmp_path / "black.png"))) == 2
    assert f"{tmp_path / 'black.png'}: no face found" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_grid_wraps_long_rows():
    pictures = [[Image.new("RGB", (2, 3), color) for color in row] for row in (["red"] * 3, ["blue"] * 2)]
    sheet = grid(pictures, columns=2)
    assert sheet.size == (4, 9)
    colours = [[sheet.getpixel((x, y)) for x in (1, 3)] for y in (1, 4, 7)]
    red, blue, white = (255, 0, 0), (0, 0, 255), (255, 255, 255)
    assert colours == [[red, red], [red, white], [blue, blue]]
