"""dataset.json: counts that add up, and equal bytes for equal inputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from data_pipeline.manifest import FORMAT
from data_pipeline.reasons import REASONS
from tests.data_pipeline.phases import world
from tests.tiny_world import make_photos, photo


def test_counts_add_up(pack: Path, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", people=3, each=4)
    photo(9, 0).save(folder / "person-00/stranger.jpg")
    (folder / "person-01/broken.jpg").write_text("broken")
    (folder / "person-01/copy.jpg").write_bytes((folder / "person-01/000.jpg").read_bytes())
    (folder / "person-02/notes.txt").write_text("notes")
    (tmp_path / "flat").mkdir()
    photo(20, 0).save(tmp_path / "flat/1.jpg")
    sources = [
        {"path": str(folder), "name": "people", "licence": "CC-BY"},
        {"path": str(tmp_path / "flat"), "layout": "flat", "licence": "CC0"},
    ]
    manifest = world("", pack, tmp_path / "out", sources=sources).build()
    assert manifest["format"] == FORMAT
    assert manifest["counts"] == {
        "found": 16,
        "accepted": 13,
        "rejected": 3,
        "identities": 3,
        "identities_accepted": 3,
        "shards": 2,
        "shard_bytes": sum(path.stat().st_size for path in (tmp_path / "out/shards").glob("*.tar")),
        "ignored_files": 0,
    }
    assert manifest["reasons"] == {"decode_error": 1, "identity_outlier": 1, "duplicate_exact": 1}
    assert list(manifest["reasons"]) == [reason for reason in REASONS if reason in manifest["reasons"]]
    assert manifest["sources"] == [
        {"name": "people", "layout": "identities", "licence": "CC-BY", "images": 15, "accepted": 12},
        {"name": "flat", "layout": "flat", "licence": "CC0", "images": 1, "accepted": 1},
    ]
    assert manifest["licences"] == {"CC-BY": 12, "CC0": 1}
    assert manifest["id_dim"] == 192
    assert sum(shard["samples"] for shard in manifest["shards"]) == 13
    for shard in manifest["shards"]:
        data = (tmp_path / "out/shards" / f"{shard['name']}.tar").read_bytes()
        assert shard["bytes"] == len(data) and shard["sha256"] == hashlib.sha256(data).hexdigest()
    assert json.loads((tmp_path / "out/dataset.json").read_text()) == manifest


def test_equal_inputs_give_equal_bytes(made: Path, photos: Path, pack: Path, parser: Path, tmp_path: Path) -> None:
    world(photos, pack, tmp_path / "out", parser).build()
    assert (tmp_path / "out/dataset.json").read_bytes() == (made / "dataset.json").read_bytes()


def test_a_rule_that_rejects_all_leaves_a_valid_manifest(photos: Path, pack: Path, tmp_path: Path) -> None:
    manifest = world(photos, pack, tmp_path / "out", min_face=2000).build()
    assert (
        manifest["counts"]["accepted"]
        == manifest["counts"]["shards"]
        == manifest["counts"]["identities_accepted"]
        == 0
    )
    assert manifest["reasons"] == {"small_face": 24}
    assert manifest["shards"] == [] and manifest["licences"] == {}
