"""A configuration is read strictly, every problem is named at once, and its hash means what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.config import DatasetConfig, with_absolute_paths
from ray_jobs.config_file import ConfigError, config_hash, load, resolved_yaml
from ray_jobs.distill_config import DistillConfig
from ray_jobs.evaluate_config import EvaluateConfig

BASE = """\
data:
  sources:
    - path: photos
  output: out
perception:
  pack: pack
"""
ONNX = "  parser: {kind: onnx, file: p.onnx, channels: [skin], threshold: 0.5}\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "c.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(DatasetConfig, path, overrides)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def test_a_small_file_gets_the_strict_profile(write):
    config = load(DatasetConfig, write(BASE))
    assert config.data.sources[0].path == "photos"
    assert config.data.min_face == 64 and config.data.resize == "crop"
    assert config.perception.parser is None


def test_overrides_are_yaml_and_reach_every_depth(write):
    config = load(
        DatasetConfig,
        write(BASE + ONNX),
        [
            "data.min_face=96",
            "data.max_yaw=null",
            "data.sources.0.path=s3://bucket/faces",
            "data.sources.1.path=more",
            "data.sources.1.licence='CC BY 4.0'",
            "perception.detector_sizes=[320, 160]",
            "perception.parser.threshold=0.25",
            "cluster.workers=2",
        ],
    )
    assert config.data.min_face == 96
    assert config.data.max_yaw is None
    assert [source.path for source in config.data.sources] == ["s3://bucket/faces", "more"]
    assert config.data.sources[1].licence == "CC BY 4.0"
    assert config.perception.detector_sizes == (320, 160)
    assert config.perception.parser.threshold == 0.25
    assert config.cluster.workers == 2


def test_the_last_of_two_equal_overrides_wins(write):
    assert load(DatasetConfig, write(BASE), ["data.seed=1", "data.seed=2"]).data.seed == 2


def test_an_override_can_make_and_remove_a_section(write):
    made = load(DatasetConfig, write(BASE), ["perception.parser.kind=bisenet", "perception.parser.file=b.pth"])
    assert made.perception.parser.file == "b.pth"
    assert load(DatasetConfig, write(BASE + ONNX), ["perception.parser=null"]).perception.parser is None


def test_an_override_of_an_aliased_list_item_leaves_the_other_alone(write):
    text = BASE.replace("    - path: photos\n", "    - &one {path: a, name: x}\n    - *one\n")
    config = load(DatasetConfig, write(text), ["data.sources.1.name=y"])
    assert [source.name for source in config.data.sources] == ["x", "y"]


def test_an_unknown_key_names_the_nearest_one_with_its_line(write):
    path = write(BASE + "  treads: 2\n")
    assert problems(path) == [f"{path}:7: unknown key `perception.treads`; did you mean `perception.threads`?"]


def test_the_nearest_key_is_looked_up_in_the_model_at_that_place(write):
    path = write(BASE + ONNX)
    assert problems(path, "data.sources.0.licnce=x") == [
        "--set data.sources.0.licnce=x: unknown key `data.sources.0.licnce`; did you mean `data.sources.0.licence`?"
    ]
    assert problems(path, "perception.parser.treshold=1") == [
        "--set perception.parser.treshold=1: unknown key `perception.parser.treshold`; "
        "did you mean `perception.parser.threshold`?"
    ]
    # the BiSeNet member of the same union has no threshold: its own keys are listed
    bisenet = write(BASE + "  parser: {kind: bisenet, file: b.pth, threshold: 0.5}\n")
    assert problems(bisenet) == [
        f"{bisenet}:7: unknown key `perception.parser.threshold`; the keys of `perception.parser` are kind, file, side"
    ]


def test_a_key_in_the_wrong_section_is_pointed_home(write):
    assert problems(write(BASE), "min_face=3") == [
        "--set min_face=3: unknown key `min_face`; did you mean `data.min_face`?"
    ]
    path = write(BASE + "data.min_face: 3\n")
    assert problems(path) == [
        f"{path}:7: unknown key `data.min_face`; a dot does not nest in YAML: write `min_face:` under `data:`"
    ]
    assert problems(path, "zzz=1")[-1].endswith("the keys at the top are data, perception, cluster, pipeline")


def test_all_problems_come_in_one_message(write):
    path = write("data:\n  sources: []\n  outptu: x\n  min_face: -1\nperception:\n  pack: 3\n")
    found = problems(path, "data.seed", "cluster.wrokers=1")
    assert len(found) == 6
    for part in ("write it as section.key=value", "`data.sources`", "did you mean `data.output`?", "got -1"):
        assert sum(part in problem for problem in found) == 1
    assert any("`perception.pack`" in problem and "quotes" in problem for problem in found)
    assert any("did you mean `cluster.workers`?" in problem for problem in found)
    # `data.output` is missing only because it is misspelt
    assert not any("is missing" in problem for problem in found)


def test_a_missing_key_is_explained(write):
    path = write(BASE.replace("  output: out\n", ""))
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:1: `data.output` is missing (dataset folder")


def test_the_kind_of_a_parser_is_chosen_from_the_known_ones(write):
    path = write(BASE + "  parser: {file: p.onnx}\n")
    assert problems(path) == [f"{path}:7: `perception.parser.kind` is missing; it must be one of 'bisenet', 'onnx'"]
    (problem,) = problems(path, "perception.parser.kind=onxx")
    assert "`perception.parser.kind` is 'onxx'; it must be one of 'bisenet', 'onnx'" in problem


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "stage1.stage.plan.btach=3",
            "unknown key `stage1.stage.plan.btach`; did you mean `stage1.stage.plan.batch`?",
        ),
        ("stage2.stage.anchr=1", "unknown key `stage2.stage.anchr`; did you mean `stage2.stage.anchor`?"),
        ("stage1.stage.mix=5", "`stage1.stage.mix` must be a section with keys, not 5"),
        ("anchor=1", "unknown key `anchor`; did you mean `stage1.stage.anchor`?"),
        ("machines.workers=many", "`machines.workers`: input should be a valid tuple, got 'many'"),
        ("machines.wrkers=1", "unknown key `machines.wrkers`; did you mean `machines.workers`?"),
    ],
)
def test_keys_of_dataclasses_and_of_what_may_be_several_things(project, override, said):
    with pytest.raises(ConfigError) as caught:
        load(DistillConfig, project / "configs/distill-miniature.yaml", [override])
    assert f"--set {override}: {said}" in caught.value.problems


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("subjects.info={Ana: {person_typ: x}}", "unknown key `subjects.info.Ana.person_typ`; did you mean "
         "`subjects.info.Ana.person_type`?"),
        ("methods.0.nme=x", "unknown key `methods.0.nme`; did you mean `methods.0.name`?"),
        ("methods.0.kind=enoder", "`methods.0.kind` is 'enoder'; it must be one of 'class_word', 'teacher', 'encoder', "
         "'entry_point'"),
        ("methods.0={}", "`methods.0.kind` is missing; it must be one of 'class_word', 'teacher', 'encoder', "
         "'entry_point'"),
        ("measures.image_encoders.dino={model: x, settngs: {}}", "unknown key `measures.image_encoders.dino.settngs`; "
         "the keys of `measures.image_encoders.dino` are model"),
        ("measures.image_encoders={DINO: {model: x}}", "the key `measures.image_encoders.DINO`: string should match "
         "pattern '^[a-z][a-z0-9_]*$', got 'DINO'"),
    ],
)  # fmt: skip
def test_keys_of_mappings_and_of_tagged_unions(project, override, said):
    with pytest.raises(ConfigError) as caught:
        load(EvaluateConfig, project / "configs/evaluate-miniature.yaml", [override])
    assert f"--set {override}: {said}" in caught.value.problems


def test_rules_of_the_models_are_passed_on_with_their_place(write):
    path = write(BASE)
    assert "multiples of 32, got [100]" in problems(path, "perception.detector_sizes=[64, 100]")[0]
    found = problems(path, "data.sources.1.path=elsewhere/photos")
    assert len(found) == 1 and "several sources are called ['photos']" in found[0]


def test_a_key_written_twice_is_refused_with_both_lines(write):
    path = write(BASE + "data:\n  output: other\n")
    assert f"{path}:7: `data` is written twice (first in line 1)" in problems(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- a\n- b\n", "found a list"),
        ("just words\n", "found a str"),
        ("data: [\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [true]\n", "not valid YAML"),
        ("a: 2026-99-99\n", "not valid YAML"),
        ("a: &a [*a]\n", "contains itself"),
        ("data: 5\n", "`data` must be a section with keys, not 5"),
    ],
)
def test_what_is_no_configuration_is_refused_in_words(write, text, expected):
    assert any(expected in problem for problem in problems(write(text)))


def test_files_that_cannot_be_read(write, tmp_path):
    write(BASE, "faces.yaml")
    assert (
        "did you mean" in problems(tmp_path / "face.yaml")[0] and "faces.yaml" in problems(tmp_path / "face.yaml")[0]
    )
    assert "nor the folder" in problems(tmp_path / "nowhere" / "c.yaml")[0]
    assert "cannot be read" in problems(tmp_path)[0]
    (tmp_path / "latin.yaml").write_bytes("data: ü".encode("latin-1"))
    assert "cannot be read" in problems(tmp_path / "latin.yaml")[0]


def test_keys_that_are_no_names_and_numbers_that_are_none(write):
    path = write(BASE + "  1: 2\n")
    assert problems(path) == [f"{path}:7: the key `perception.1` is not a name; put it in quotes"]
    path = write(BASE.replace("output: out", "output: out\n  min_sharpness: .inf"))
    assert problems(path) == [f"{path}:5: `data.min_sharpness` is inf, not a number to compute with"]


def test_a_rule_is_not_switched_off_with_a_boolean(write):
    path = write(BASE.replace("output: out", "output: out\n  max_yaw: off"))
    assert problems(path) == [f"{path}:5: `data.max_yaw` is a number, not yes or no; write null to switch a rule off"]
    assert load(DatasetConfig, write(BASE), ["data.drop_exact_duplicates=no"]).data.drop_exact_duplicates is False


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.seed", "section.key=value"),
        ("=3", "section.key=value"),
        ("data..seed=3", "section.key=value"),
        ("data.seed=", "the value is empty"),
        ("data.seed=[1", "not valid YAML"),
        ("data.max_yaw=.nan", "not a number to compute with"),
        ("data.output.deep=1", "`data.output` is 'out', not a section"),
        ("data.sources.3.path=x", "0 to 0, or 1 to add one"),
        ("data.sources.first.path=x", "name an item by its index"),
        ("data.sources.-1.path=x", "name an item by its index"),
        ("data.output=2026", "put it in quotes"),
        ("data.seed.x=1", "`data.seed`"),
    ],
)
def test_bad_overrides_say_what_is_wrong(write, override, expected):
    found = problems(write(BASE), override)
    assert len(found) == 1
    assert found[0].startswith(f"--set {override}: ") and expected in found[0]


def test_the_hash_depends_on_values_and_not_on_their_order(write):
    one = load(
        DatasetConfig,
        write("data:\n  sources: [{path: a, licence: b}]\n  output: o\nperception:\n  pack: p\n  threads: 2\n"),
    )
    two = load(
        DatasetConfig,
        write("perception:\n  threads: 2\n  pack: p\ndata:\n  output: o\n  sources: [{licence: b, path: a}]\n"),
    )
    assert config_hash(one) == config_hash(two)
    assert len(config_hash(one)) == 16 and int(config_hash(one), 16) >= 0
    assert config_hash(load(DatasetConfig, write(BASE))) != config_hash(
        load(DatasetConfig, write(BASE), ["data.seed=1"])
    )
    # a default written out is the same configuration
    assert config_hash(load(DatasetConfig, write(BASE))) == config_hash(
        load(DatasetConfig, write(BASE), ["data.min_face=64", "data.max_yaw=60"])
    )


def test_what_is_shipped_in_a_package_is_named_the_same_on_every_machine(write, tmp_path, monkeypatch):
    """Local paths are made absolute for workers in other folders; a package lies elsewhere on other machines."""
    monkeypatch.chdir(tmp_path)
    shipped = ["perception.pack=package://adaface.miniature/weights/pack"]
    assert (
        with_absolute_paths(load(DatasetConfig, write(BASE), shipped)).perception.pack == shipped[0].partition("=")[2]
    )
    assert with_absolute_paths(load(DatasetConfig, write(BASE), ["perception.pack=models"])).perception.pack == str(
        tmp_path / "models"
    )


def test_the_resolved_text_reads_back_as_the_same_configuration(write):
    config = load(DatasetConfig, write(BASE + ONNX), ["data.profile=original", "data.sources.0.licence='№ 1: yes'"])
    again = load(DatasetConfig, write(resolved_yaml(config), "resolved.yaml"))
    assert again == config
    assert config_hash(config) in resolved_yaml(config).splitlines()[0]
    assert resolved_yaml(again) == resolved_yaml(config)
