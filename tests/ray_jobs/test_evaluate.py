"""The evaluation job on rendered people and the shipped miniature: once undisturbed, then continued, killed, changed."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from adaface.shipped_files import sha256
from ray_jobs.config import JobConfig
from ray_jobs.config_file import ConfigError, load
from ray_jobs.evaluate import main, run
from ray_jobs.evaluate_config import EvaluateConfig
from tests.ray_jobs.conftest import tree
from tests.ray_jobs.job_process import Job, wait_for
from tests.tiny_evaluation import make_encoder, make_people, small_settings

WEIGHTS = "package://adaface.miniature/weights/teacher"
TEACHER = f"{{name: teacher, kind: teacher, unet: '{WEIGHTS}/unet', text_encoder: '{WEIGHTS}/text_encoder'}}"


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints with one in it."""
    return make_encoder(tmp_path_factory.mktemp("runs") / "step-000000").parent


@pytest.fixture
def config(people: Path, untrained: Path, tmp_path: Path, project: Path) -> Callable[..., EvaluateConfig]:
    """configs/evaluate-miniature.yaml, made small: 3 people, 3 prompts, 2 pictures, 8 steps; with the teacher."""
    return lambda *overrides: small(people, untrained, tmp_path / "runs" / "out", project, *overrides)


def small(people: Path, encoder: Path, out: Path, project: Path, *overrides: str) -> EvaluateConfig:
    settings = small_settings(people, encoder, out, f"methods.2={TEACHER}", *overrides)
    return load(EvaluateConfig, project / "configs" / "evaluate-miniature.yaml", settings)


@pytest.fixture(scope="session")
def evaluated(
    local_ray: None, people: Path, untrained: Path, tmp_path_factory: pytest.TempPathFactory, project: Path
) -> Path:
    """One undisturbed run, for all tests: not to be changed."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    run(small(people, untrained, out, project))
    return out


def test_every_picture_has_a_file_and_a_row_of_scores(evaluated: Path) -> None:
    scores = pq.read_table(evaluated / "scores.parquet")
    assert scores.num_rows == 3 * 3 * 3 * 2
    files = scores["file"].to_pylist()
    assert not [*(evaluated / "drawn").iterdir()]
    assert sorted(files) == sorted(
        path.relative_to(evaluated).as_posix() for path in (evaluated / "images").rglob("*.png")
    )
    assert {"face_pack", "face_judge", "gap_pack", "gap_judge", "clip_text", "clip_image", "factors", "undisturbed",
            "copy_pack", "diversity", "composition", "detected"} <= set(scores.column_names)  # fmt: skip
    with Image.open(evaluated / files[0]) as picture:
        assert picture.size == (64, 64)
        assert picture.info["seed"] == str(scores["seed"][0].as_py())
        assert picture.info["prompt"] == scores["prompt"][0].as_py()


def test_all_methods_have_the_same_seeds(evaluated: Path) -> None:
    rows = pq.read_table(evaluated / "scores.parquet").to_pylist()
    seeds: dict[str, dict[tuple[str, str, int], int]] = {"class-word": {}, "ours": {}, "teacher": {}}
    for row in rows:
        seeds[row["method"]][row["subject"], row["prompt_id"], row["k"]] = row["seed"]
    assert seeds["class-word"] == seeds["ours"] == seeds["teacher"]
    assert len(set(seeds["ours"].values())) == 18


def test_methods_rank_as_theory_says(evaluated: Path) -> None:
    """The teacher knows the face and reads no prompt, the plain model reads the prompt and knows no face, and an encoder
    before its training neither: a metric that cannot tell them apart is broken."""
    summary = json.loads((evaluated / "summary.json").read_text())["overall"]
    mean = {method: {name: cell["mean"] for name, cell in cells.items()} for method, cells in summary.items()}
    plain, floor, teacher = mean["class-word"], mean["ours"], mean["teacher"]
    for recogniser in ("pack", "judge"):
        gap, face = f"gap_{recogniser}", f"face_{recogniser}_or_0"
        assert abs(floor[gap]) < 0.1
        assert plain[gap] < 0.3  # not 0, as class words say something of three people
        assert teacher[gap] > plain[gap] + 0.4
        assert teacher[face] > max(plain[face], floor[face]) + 0.4
    for column in ("clip_text", "composition"):
        assert plain[column] > teacher[column] + 0.4


def test_the_page_and_the_history_are_there(evaluated: Path) -> None:
    page = (evaluated / "report" / "index.html").read_text()
    assert "Evaluation in the miniature" in page and "Ñandú" in page
    assert (evaluated / "report" / "report.md").read_text().strip()
    card = (evaluated / "report" / "model-card-ours.md").read_text()
    assert "18 pictures of 3 subjects" in card
    for said in (
        "- base model: ",
        "- teacher teacher: UNet ",
        "- negative prompt: none",
        "Versions: python ",
        "- measures: clip: ",
    ):
        assert said in card, said
    assert "Hashes: configuration `" in card and "protocol `" in card
    assert str(evaluated.parent) not in card
    (judged,) = (evaluated / "encoders").glob("step-000000-*/adaface.safetensors")  # a copy, which nobody deletes
    assert f"Judged weights: `adaface.safetensors sha256` {sha256(judged)}." in card
    (history,) = (evaluated.parent / "history").glob("*.parquet")
    assert {row["method"] for row in pq.read_table(history).to_pylist()} == {"class-word", "ours", "teacher"}


def test_who_drew_and_measured_is_shown_as_it_was_loaded(evaluated: Path) -> None:
    page = (evaluated / "report" / "index.html").read_text()
    files = {file.name.rsplit("-", 1)[0]: json.loads(file.read_text()) for file in evaluated.glob("provenance/*.json")}
    assert set(files) == {"method-class-word", "method-ours", "method-teacher", "measures"}
    assert files["method-ours"]["folder"].startswith("step-000000-")
    assert "unet/diffusion_pytorch_model.safetensors" in files["method-class-word"]["files"]
    detector = files["measures"]["models"]["detector"]["sha256"]
    assert detector in page and files["measures"]["device"] in page and files["method-teacher"]["device"] in page


def test_a_second_run_draws_nothing_and_says_the_same(
    evaluated: Path, config: Callable[..., EvaluateConfig], tmp_path: Path
) -> None:
    out = copied(evaluated, tmp_path)
    before = tree(out / "images")
    run(config())
    assert tree(out / "images") == before
    assert (out / "scores.parquet").read_bytes() == (evaluated / "scores.parquet").read_bytes()


def test_a_picture_that_was_lost_is_drawn_again(
    evaluated: Path, config: Callable[..., EvaluateConfig], tmp_path: Path
) -> None:
    out = copied(evaluated, tmp_path)
    (lost, *_), pictures = sorted((out / "images" / "class-word").rglob("*.png")), tree(out / "images")
    content, changed = lost.read_bytes(), pictures.pop(lost.relative_to(out / "images").as_posix())
    lost.unlink()
    run(config())
    after = tree(out / "images")
    assert lost.read_bytes() == content
    assert after.pop(lost.relative_to(out / "images").as_posix()) != changed  # it has another time
    assert after == pictures  # those that were drawn with it stay
    assert (out / "scores.parquet").read_bytes() == (evaluated / "scores.parquet").read_bytes()


def test_settings_that_come_back_find_their_pictures_again(
    evaluated: Path, config: Callable[..., EvaluateConfig], tmp_path: Path
) -> None:
    """Their features are still there, and the pictures are those of the run in between."""
    out = copied(evaluated, tmp_path)
    before = tree(out / "images")
    one = "subjects.names=[Ana]"
    run(config(one, "methods.1.id_scale=1.5"))
    assert tree(out / "images") != before
    run(config(one))
    assert {name: content for name, (_, content) in tree(out / "images").items()} == {
        name: content for name, (_, content) in before.items()
    }


def test_only_what_a_change_concerns_is_drawn_again(
    evaluated: Path, config: Callable[..., EvaluateConfig], tmp_path: Path
) -> None:
    out = copied(evaluated, tmp_path)
    before = tree(out / "images")
    (out / "images" / "ours" / "Ana").rename(tmp_path / "taken")
    run(config("methods.1.id_scale=1.5", "subjects.names=[Li Wei, Ñandú]"))
    after = tree(out / "images")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in after if name.startswith("ours/")}
    assert pq.read_table(out / "scores.parquet").num_rows == 3 * 2 * 3 * 2


def copied(evaluated: Path, tmp_path: Path) -> Path:
    """A copy that keeps the times of its files, where `config()` writes."""
    return Path(shutil.copytree(evaluated, tmp_path / "runs" / "out"))


# A run that is killed


@pytest.mark.timeout(600)  # two evaluations, each with a Ray of its own
@pytest.mark.parametrize("seed", [None, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
def test_killed_and_continued(
    start: Callable[[str, JobConfig], Job],
    config: Callable[..., EvaluateConfig],
    evaluated: Path,
    tmp_path: Path,
    seed: int | None,
) -> None:
    """Without a seed the moment is new in every run of the tests; a failure names the seed that repeats it."""
    seed = seed or int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(100, 10**6)
    out = tmp_path / "runs" / "out"
    job = start("evaluate", config())
    assert wait_for(job, out, "pictures"), job.log.read_text()
    while not any((out / "images").rglob("*.png")) and job.process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 2))
    job.kill()
    drawn = tree(out / "images")
    assert start("evaluate", config()).wait() == 0
    after = tree(out / "images")
    whole = {name: state for name, state in drawn.items() if not name.rsplit("/", 1)[-1].startswith(".tmp-")}
    assert {name: after[name] for name in whole} == whole, f"drawn twice (KILL_SEED={seed})"
    assert (out / "scores.parquet").read_bytes() == (evaluated / "scores.parquet").read_bytes(), f"KILL_SEED={seed}"


# Bad input


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_written(
    config: Callable[..., EvaluateConfig], people: Path, tmp_path: Path
) -> None:
    folk = tmp_path / "folk"
    shutil.copytree(people / "Ana", folk / "Ana")
    for name in ("grey", "white", "cut", "nobody"):
        (folk / name).mkdir()
    for name in ("grey", "white"):
        Image.new("RGB", (128, 128), name).save(folk / name / "1.png")
    whole = (people / "Ana" / "0.jpg").read_bytes()
    (folk / "cut" / "1.jpg").write_bytes(whole[: len(whole) // 2])  # its header says that it is a picture
    (tmp_path / "no-text.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "twice.txt").write_text("a {} in the snow\nA man in the  snow.\n")
    (tmp_path / "beech.yaml").write_text("place:\n- {text: 'a {} by a tree', expects: {place: beech, pet: dog}}\n")
    sets = ", ".join(f"'{tmp_path / name}'" for name in ("no-text.txt", "twice.txt", "beech.yaml"))
    wrong = config(f"subjects.folder='{folk}'", f"prompts.sets=[{sets}]")
    # a mistake in a metric hides nothing of the others
    unknown = config(f"subjects.folder='{folk}'", f"prompts.sets=[{sets}]", "measures.metrics=[faces, composition]")
    for given, metrics in ((wrong, []), (unknown, ["unknown metric 'faces'"])):
        with pytest.raises(ConfigError) as error:
            run(given)
        said = error.value.problems
        expected = [
            "subject nobody:",
            "subject grey: no face was found",
            "subject white: no face was found",
            f"subject cut: {folk / 'cut' / '1.jpg'}",
            f"prompts {tmp_path / 'no-text.txt'}: cannot be read as a text file",
            f"prompts {tmp_path / 'twice.txt'}, line 2: the same prompt as",
            "prompts expect pet",
            "prompt by-a-tree expects place: beech",
            *metrics,
        ]
        assert [sum(line.startswith(start) for line in said) for start in expected] == [1] * len(expected), said
        assert len(said) == len(expected), said
        assert not (tmp_path / "runs").exists()


def test_a_refused_run_leaves_what_an_earlier_one_made(
    config: Callable[..., EvaluateConfig], evaluated: Path, tmp_path: Path
) -> None:
    out = copied(evaluated, tmp_path)
    before = tree(out)
    (tmp_path / "folk" / "grey").mkdir(parents=True)
    Image.new("RGB", (128, 128), "grey").save(tmp_path / "folk" / "grey" / "1.png")
    with pytest.raises(ConfigError, match="grey"):
        run(config(f"subjects.folder='{tmp_path / 'folk'}'", f"methods=[{TEACHER}]"))
    assert tree(out) == before  # the copies of encoders that it would not have drawn with, too


def test_exit_status(tmp_path: Path, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(project / "configs/evaluate-miniature.yaml"), "--set", "generation.stepz=3"]) == 2
    assert "did you mean `generation.steps`?" in capfd.readouterr().out


# An object store


@pytest.mark.slow  # test_build_dataset.py has a job that writes there
def test_the_output_may_be_in_an_object_store(
    s3: Callable[[], str], evaluated: Path, config: Callable[..., EvaluateConfig]
) -> None:
    from data_pipeline.storage import Storage

    bucket = s3()
    run(config(f"output='{bucket}/run'"))
    there = Storage(f"{bucket}/run")
    assert there.read_bytes("scores.parquet") == (evaluated / "scores.parquet").read_bytes()
    assert there.exists("report/index.html") and Storage(f"{bucket}/history").list()
