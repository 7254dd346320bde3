"""The whole job, on real Ray, with models small enough that only the machinery is tested."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_pipeline.config import SourceConfig
from data_pipeline.pairs import export
from data_pipeline.verify import verify
from ray_jobs.build_dataset import run
from ray_jobs.config import DatasetConfig
from tests.ray_jobs.conftest import content, tree
from tests.tiny_world import make_pack, photo

Build = Callable[[DatasetConfig], dict[str, Any]]
MakeConfig = Callable[..., DatasetConfig]


def last_run(out: Path) -> dict[str, Any]:
    return json.loads(sorted((out / "runs").glob("*.json"))[-1].read_text())


def test_a_build_is_complete_and_sound(made: Path) -> None:
    manifest = json.loads((made / "dataset.json").read_text())
    assert manifest["counts"] == {
        "found": 24,
        "accepted": 24,
        "rejected": 0,
        "identities": 4,
        "identities_accepted": 4,
        "shards": 3,
        "shard_bytes": sum(path.stat().st_size for path in (made / "shards").glob("*.tar")),
        "ignored_files": 0,
    }
    assert verify(str(made)) == []
    assert (made / "report" / "index.html").stat().st_size > 10_000
    assert json.loads((made / "progress.json").read_text())["phase"] == "done"
    rows = [
        row for path in sorted((made / "shards").glob("train-*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    assert len({row["key"] for row in rows}) == 24
    assert {row["n_parts"] for row in rows} <= {2, 3}
    assert all(0.9 < row["identity_similarity"] <= 1.0001 for row in rows)


def test_a_rerun_does_no_work_and_changes_no_byte(build: Build, config: MakeConfig, out: Path, tmp_path: Path) -> None:
    first = tree(tmp_path / "out")
    build(config())

    assert last_run(tmp_path / "out")["work"] == {"scanned": 0, "analysed": 0, "selected": 0, "sharded": 0}
    second = tree(tmp_path / "out")
    for name in content(tmp_path / "out"):
        if name.startswith(("features/part-", "shards/train-")) or name in ("selection.parquet", "source.parquet"):
            assert second[name] == first[name], f"{name} was written again"
        assert second[name][1] == first[name][1], f"{name} has other bytes"


def test_two_builds_of_the_same_inputs_are_equal(
    build: Build, config: MakeConfig, made: Path, tmp_path: Path, photos: Path
) -> None:
    before = tree(photos)
    manifest = build(config(tmp_path / "again"))
    assert manifest == json.loads((tmp_path / "again" / "dataset.json").read_text())
    assert tree(photos) == before, "sources must never change"
    assert content(tmp_path / "again") == content(made)
    assert len(content(made)) > 15


def test_a_changed_rule_analyses_nothing(build: Build, config: MakeConfig, out: Path, tmp_path: Path) -> None:
    features = tree(tmp_path / "out" / "features")
    manifest = build(config(min_identity_images=7))

    assert manifest["counts"]["accepted"] == 0
    assert manifest["reasons"] == {"identity_too_small": 24}
    assert last_run(tmp_path / "out")["work"] == {"scanned": 0, "analysed": 0, "selected": 24, "sharded": 0}
    assert {name: value for name, value in tree(tmp_path / "out" / "features").items() if "part-" in name} == {
        name: value for name, value in features.items() if "part-" in name
    }
    assert list((tmp_path / "out" / "shards").glob("*.tar")) == [], "shards of the old selection must go"
    assert verify(str(tmp_path / "out")) == []

    build(config(shard_size=12))
    assert last_run(tmp_path / "out")["work"] == {"scanned": 0, "analysed": 0, "selected": 24, "sharded": 24}


@pytest.mark.slow
def test_a_changed_model_analyses_everything(build: Build, config: MakeConfig, out: Path, tmp_path: Path) -> None:
    other = make_pack(tmp_path / "other", strength=0.5)
    changed = config()
    changed = changed.model_copy(update={"perception": changed.perception.model_copy(update={"pack": str(other)})})
    build(changed)
    assert last_run(tmp_path / "out")["work"] == {"scanned": 0, "analysed": 24, "selected": 24, "sharded": 24}
    fresh = changed.model_copy(update={"data": changed.data.model_copy(update={"output": str(tmp_path / "fresh")})})
    build(fresh)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_new_photos_alone_are_analysed(build: Build, config: MakeConfig, tmp_path: Path, photos: Path) -> None:
    photos = Path(shutil.copytree(photos, tmp_path / "photos"))
    config = functools.partial(config, source=photos)
    build(config())
    photo(person=1, number=77).save(photos / "person-01" / "new.jpg", quality=92)
    (photos / "person-02" / "000.jpg").unlink()
    manifest = build(config())

    assert last_run(tmp_path / "out")["work"]["scanned"] == 1
    assert last_run(tmp_path / "out")["work"]["analysed"] == 1
    assert manifest["counts"]["accepted"] == 24
    build(config(tmp_path / "fresh"))
    grown, fresh = content(tmp_path / "out"), content(tmp_path / "fresh")
    assert {name: value for name, value in grown.items() if name.endswith(".tar")} == {
        name: value for name, value in fresh.items() if name.endswith(".tar")
    }, "a dataset that grew must have the shards of one that was made at once"


def test_object_store_and_local_folder_give_the_same_shards(
    build: Build, config: MakeConfig, made: Path, photos: Path, s3: Callable[[], str]
) -> None:
    from data_pipeline.storage import Storage

    bucket = s3()
    remote = Storage(f"{bucket}/photos")
    for path in sorted(photos.rglob("*.jpg")):
        remote.write_bytes(path.relative_to(photos).as_posix(), path.read_bytes())
    manifest = build(config(out=f"{bucket}/out", source=f"{bucket}/photos"))

    local = json.loads((made / "dataset.json").read_text())
    assert manifest["shards"] == local["shards"]
    assert manifest["counts"]["accepted"] == 24
    assert verify(f"{bucket}/out") == []
    again = build(config(out=f"{bucket}/out", source=f"{bucket}/photos"))
    assert again == manifest
    run = Storage(f"{bucket}/out")
    assert run.read_json(run.list("runs")[-1])["work"]["analysed"] == 0


def test_exported_pairs_read_back_as_the_same_set(build: Build, config: MakeConfig, out: Path, tmp_path: Path) -> None:
    assert export(str(tmp_path / "out"), str(tmp_path / "pairs")) == {"images": 24, "masks": 24, "identities": 4}
    manifest = build(
        config(out=tmp_path / "again", sources=[{"path": str(tmp_path / "pairs"), "layout": "pairs", "name": "pairs"}])
    )
    assert manifest["counts"]["accepted"] == 24

    def accepted(out: str) -> list[dict[str, Any]]:
        return [row for row in pq.read_table(tmp_path / out / "selection.parquet").to_pylist() if row["accepted"]]

    assert {Path(row["path"]).stem for row in accepted("again")} == {row["key"] for row in accepted("out")}


def test_bad_input_is_refused_whole_before_anything_is_written(config: MakeConfig, tmp_path: Path) -> None:
    good = config()
    bad = good.model_copy(
        update={
            "perception": good.perception.model_copy(
                update={
                    "pack": str(tmp_path / "nowhere"),
                    "parser": good.perception.parser.model_copy(update={"file": "gone.onnx"}),
                }
            ),
            "data": good.data.model_copy(update={"min_parts": 12, "eval_identities": [str(tmp_path / "no*.npy")]}),
        }
    )
    bad = bad.model_copy(
        update={"data": bad.data.model_copy(update={"sources": [SourceConfig(path=str(tmp_path / "no-photos"))]})}
    )
    with pytest.raises(ValueError) as error:
        run(bad)
    for part in ("nowhere", "gone.onnx", "min_parts is 12", "no*.npy", "no-photos"):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


DAMAGED = (
    "features/plan.json",
    "selection.parquet",
    "dataset.json",
    "cache/scan.parquet",
    "shards/train-000001_stats.json",
)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(DAMAGED[:1], id="of the analysis"),
        pytest.param(DAMAGED[1:], id="of what comes before and after it"),
        *(pytest.param([name], id=name, marks=pytest.mark.slow) for name in DAMAGED[1:]),
    ],
)
def test_damaged_files_of_an_earlier_run_are_made_again(
    build: Build, config: MakeConfig, made: Path, out: Path, names: Sequence[str]
) -> None:
    for name in names:
        (out / name).write_bytes(b"\x00 damaged")
    build(config())
    assert content(out) == content(made)


def test_a_missing_gpu_is_refused_before_anything_is_written(
    config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime offers CUDA here")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    good = config()
    with pytest.raises(ValueError, match="install onnxruntime-gpu"):
        run(good.model_copy(update={"perception": good.perception.model_copy(update={"device": "cuda"})}))
    assert not (tmp_path / "out").exists()


def test_an_evaluation_identity_is_kept_out(build: Build, config: MakeConfig, out: Path, tmp_path: Path) -> None:
    table = pq.read_table(out / "identities.parquet")
    pq.write_table(table.slice(2, 1), tmp_path / "eval.parquet")
    manifest = build(config(eval_identities=[str(tmp_path / "eval.parquet")]))
    assert manifest["reasons"] == {"eval_identity_leak": 6}
    rejected = [
        row for row in pq.read_table(tmp_path / "out" / "selection.parquet").to_pylist() if not row["accepted"]
    ]
    assert {row["identity"] for row in rejected} == {"tiny/person-02"}
