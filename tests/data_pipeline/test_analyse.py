"""Features of real files through real (tiny) networks: every file a row, whatever is in it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from adaface.perception.classes import CLASS_NAMES
from data_pipeline import analyse
from data_pipeline.analyse import PartAnalyser, analyse_hash
from data_pipeline.measures import overlap
from data_pipeline.metrics import face_seen, png
from data_pipeline.plan import make_plan, part_name, read_part_plan
from data_pipeline.schema import FEATURES
from data_pipeline.sources import hash_images, list_images
from tests.data_pipeline.phases import World, tree, world
from tests.tiny_world import SIDE, make_pack, photo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos/ann").mkdir(parents=True)
    return tmp_path / "photos/ann"


@pytest.fixture
def tiny(folder: Path, pack: Path, parser: Path, tmp_path: Path) -> World:
    return world(folder.parent, pack, tmp_path / "out", parser, part_size=100)


def rows_of(tiny: World) -> dict[str, dict[str, Any]]:
    """Rows of FEATURES by file name."""
    source = tiny.scan()
    tiny.analyse(source)
    table = tiny.out.read_table(part_name(0))
    by_id = {(row["image_id"], row["mask_id"]): row for row in table.to_pylist()}
    found = source.to_pylist()
    return {Path(item["path"]).name: by_id[item["image_id"], item["mask_id"]] for item in found}


def test_every_file_becomes_a_row(tiny: World, folder: Path, tmp_path: Path) -> None:
    photo(0, 0).save(folder / "good.jpg", quality=95)
    Image.new("RGB", (200, 100)).save(folder / "black.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    (folder / "half.jpg").write_bytes((folder / "good.jpg").read_bytes()[:3000])
    (folder / "dangling.jpg").symlink_to(tmp_path / "gone")
    photo(0, 1).convert("CMYK").save(folder / "cmyk.jpg")
    photo(0, 2).convert("L").save(folder / "grey.webp")
    Image.new("RGB", (1, 1), "white").save(folder / "pixel.png")
    Image.new("RGB", (2000, 3), "white").save(folder / "sliver.png")
    before = tree(folder)
    rows = rows_of(tiny)
    assert tree(folder) == before
    outcomes = {name: row["outcome"] for name, row in rows.items()}
    bad = ["dangling.jpg", "empty.jpg", "half.jpg", "text.jpg"]
    assert sorted(name for name, outcome in outcomes.items() if outcome == "decode_error") == bad
    assert all(rows[name]["error"] for name in bad)
    assert {name: rows[name]["n_faces"] for name in ("good.jpg", "cmyk.jpg", "grey.webp", "black.png")} == {
        "good.jpg": 1,
        "cmyk.jpg": 1,
        "grey.webp": 1,
        "black.png": 0,
    }
    assert rows["black.png"]["embedding"] is None and rows["black.png"]["det_score"] is None
    assert (rows["black.png"]["width"], rows["black.png"]["height"]) == (200, 100)
    assert rows["black.png"]["phash"] is not None and rows["black.png"]["mask"] is not None


def test_the_columns_of_one_photo(tiny: World, folder: Path) -> None:
    photo(0, 0, size=160).crop((0, 0, 160, 128)).save(folder / "a.png")
    row = rows_of(tiny)["a.png"]
    assert (row["format"], row["width"], row["height"], row["n_faces"]) == ("PNG", 160, 128, 1)
    assert row["det_score"] == pytest.approx(0.9) and row["border"] == 0 and row["detector_size"] == SIDE
    assert row["second_face"] == 0
    x0, y0, x1, y1 = row["crop"]
    assert (x1 - x0, y1 - y0) == (128, 128)
    assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5) and len(row["embedding"]) == 192
    assert row["embedding_norm"] > 0
    width, height = row["bbox"][2] - row["bbox"][0], row["bbox"][3] - row["bbox"][1]
    assert row["face_share"] == pytest.approx(overlap(row["bbox"], row["crop"]) / 128**2)
    assert row["face_pixels"] == pytest.approx(min(width, height) * 0.5), "px of the 64 px sample, the less"
    assert row["inter_ocular"] == pytest.approx((row["landmarks"][2] - row["landmarks"][0]) * 0.5)
    assert 0 < row["exposure"] < 1 and 0 <= row["clipped"] < 1 and row["sharpness"] > 0
    assert (row["gender"], row["age"]) == (None, None)
    assert sum(row["part_pixels"]) == SIDE**2
    assert row["n_parts"] == sum(count > 0 for count in row["part_pixels"]) > 1
    parts, mask = (np.asarray(Image.open(io.BytesIO(row[name]))) for name in ("parts", "mask"))
    assert parts.shape == mask.shape == (SIDE, SIDE) and parts.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}
    np.testing.assert_array_equal(mask > 0, parts > 0)
    assert row["foreground"] == pytest.approx((mask > 0).mean())
    assert row["face_seen"] == pytest.approx(face_seen(parts, row["bbox"], row["crop"]))
    assert [int((parts == n).sum()) for n in range(len(CLASS_NAMES))] == row["part_pixels"]


def test_what_of_a_face_lies_outside_the_sample_is_no_share_of_it(tiny: World, folder: Path) -> None:
    """The box of the tiny detector, (30, 30, 130, 130) here, reaches over the lower edge of a strip."""
    photo(0, 0, size=160).crop((0, 50, 160, 110)).save(folder / "strip.png")
    row = rows_of(tiny)["strip.png"]
    assert row["bbox"] == pytest.approx([30, 30, 130, 130], abs=1e-3) and row["crop"] == [50, 0, 110, 60]
    assert row["face_share"] == pytest.approx(0.5, abs=1e-4)


def test_a_huge_photo_is_detected_small_and_measured_large(
    tiny: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(0, 0, size=640).save(folder / "large.png")
    small, large = tiny, world(folder.parent, Path(tiny.perception.pack), folder.parent.parent / "other")
    direct = rows_of(large)["large.png"]
    monkeypatch.setattr(analyse, "WORKING_PIXELS", 100 * 100)
    reduced = rows_of(small)["large.png"]
    assert (reduced["width"], reduced["crop"]) == (640, direct["crop"])
    for name in ("bbox", "landmarks", "inter_ocular", "face_pixels", "face_share", "yaw", "exposure"):
        assert reduced[name] == pytest.approx(direct[name], abs=0.5), name
    assert np.dot(reduced["embedding"], direct["embedding"]) > 0.95


def test_after_two_deaths_every_photo_is_decoded_in_a_child_first(tiny: World, folder: Path) -> None:
    photo(0, 0).save(folder / "a.png")
    photo(0, 1).save(folder / "b.jpg")
    (folder / "c.jpg").write_text("no image")
    make_plan(tiny.out, tiny.scan(), tiny.data, tiny.hash)
    dies = """
import os, sys
from adaface.perception.config import PerceptionConfig
from data_pipeline.analyse import PartAnalyser
from data_pipeline.config import DataConfig
PartAnalyser._load = lambda _: None
PartAnalyser.analyse = lambda *_: os._exit(9)
data, perception, digest = sys.argv[1:]
PartAnalyser(DataConfig.model_validate_json(data), PerceptionConfig.model_validate_json(perception), digest)(0)
"""
    settings = [tiny.data.model_dump_json(), tiny.perception.model_dump_json(), tiny.hash]
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", dies, *settings], check=False).returncode == 9
    assert not tiny.out.exists(part_name(0)) and len(tiny.out.list("cache")) == 1
    analyser = PartAnalyser(tiny.data, tiny.perception, tiny.hash)
    assert analyser(0)["images"] == 3 and analyser._suspicious
    rows = tiny.out.read_table(part_name(0)).to_pylist()
    assert sorted(row["outcome"] for row in rows) == ["analysed", "analysed", "decode_error"]
    assert tiny.out.list("cache") == []
    tiny.out.delete(part_name(0))
    assert analyser(0)["images"] == 3 and not analyser._suspicious
    assert tiny.out.read_table(part_name(0)).to_pylist() == rows


def test_a_small_picture_gains_no_pixels(tiny: World, folder: Path) -> None:
    photo(0, 0, size=32).save(folder / "small.png")
    row = rows_of(tiny)["small.png"]
    assert row["face_pixels"] == pytest.approx(row["bbox"][2] - row["bbox"][0], rel=1e-3)


def test_without_a_parser_there_are_no_masks(folder: Path, pack: Path, tmp_path: Path) -> None:
    photo(0, 0).save(folder / "a.png")
    row = rows_of(world(folder.parent, pack, tmp_path / "out"))["a.png"]
    assert [row[name] for name in ("parts", "mask", "n_parts", "face_seen", "foreground")] == [None] * 5


def checkered(size: tuple[int, int] = (160, 160)) -> Image.Image:
    mask = np.zeros(size[::-1], np.uint8)
    mask[: size[1] // 2, : size[0] // 2] = 255
    return Image.fromarray(mask)


def test_a_given_mask_replaces_the_parser_s(folder: Path, pack: Path, parser: Path, tmp_path: Path) -> None:
    photo(0, 0).save(folder / "a.png")
    checkered().convert("1").save(folder / "a_mask.png")
    photo(0, 1).save(folder / "b.png")
    checkered((80, 80)).save(folder / "b_mask.png")  # smaller than its photo
    sources = [{"path": str(folder.parent), "name": "tiny", "layout": "pairs"}]
    rows = rows_of(world(folder.parent, pack, tmp_path / "out", parser, part_size=100, sources=sources))
    for name in ("a.png", "b.png"):
        mask = np.asarray(Image.open(io.BytesIO(rows[name]["mask"])))
        np.testing.assert_array_equal(mask, np.asarray(checkered((SIDE, SIDE))))
        assert rows[name]["foreground"] == 0.25
        assert 0 <= rows[name]["mask_iou"] <= 1 and rows[name]["parts"] is not None


def test_a_mask_beside_an_ordinary_photo_is_compared_only(tiny: World, folder: Path) -> None:
    photo(0, 0).save(folder / "a.png")
    checkered().save(folder / "a_mask.png")
    row = rows_of(tiny)["a.png"]
    parsed = np.asarray(Image.open(io.BytesIO(row["parts"]))) > 0
    given = np.asarray(checkered((SIDE, SIDE))) > 0
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["mask"]))) > 0, parsed)
    assert row["mask_iou"] == pytest.approx((parsed & given).sum() / (parsed | given).sum())


def test_a_damaged_mask_rejects_a_pair_but_not_a_photo(folder: Path, pack: Path, parser: Path, tmp_path: Path) -> None:
    photo(0, 0).save(folder / "a.png")
    (folder / "a_mask.png").write_text("no image")
    plain = rows_of(world(folder.parent, pack, tmp_path / "plain", parser))["a.png"]
    assert plain["outcome"] == "analysed" and plain["mask_iou"] is None and plain["mask"] is not None
    sources = [{"path": str(folder.parent), "name": "tiny", "layout": "pairs"}]
    pair = rows_of(world(folder.parent, pack, tmp_path / "pairs", parser, sources=sources))["a.png"]
    assert pair["outcome"] == "decode_error" and "a_mask.png" in pair["error"]


def test_a_layout_that_changes_is_noticed(folder: Path, pack: Path, parser: Path, tmp_path: Path) -> None:
    """The same photo and mask, first compared, then given: the mask of the sample is another."""
    photo(0, 0).save(folder / "a.png")
    checkered().save(folder / "a_mask.png")
    first = world(folder.parent, pack, tmp_path / "out", parser)
    rows_of(first)
    sources = [{"path": str(folder.parent), "name": "tiny", "layout": "pairs"}]
    second = world(folder.parent, pack, tmp_path / "out", parser, sources=sources)
    source = second.scan()
    plan = second.analyse(source)
    features = pa.concat_tables([second.out.read_table(part_name(part)) for part in range(plan.parts)]).to_pylist()
    item = source.to_pylist()[0]
    matching = [row for row in features if (row["image_id"], row["mask_id"]) == (item["image_id"], item["mask_id"])]
    assert [row["foreground"] for row in matching] == [0.25]


def test_a_file_that_changed_after_the_scan_stops_the_part(tiny: World, folder: Path) -> None:
    photo(0, 0).save(folder / "a.png")
    make_plan(tiny.out, tiny.scan(), tiny.data, tiny.hash)
    photo(0, 1).save(folder / "a.png")
    with pytest.raises(OSError, match="changed while the dataset was being built"):
        PartAnalyser(tiny.data, tiny.perception, tiny.hash)(0)
    assert not tiny.out.exists(part_name(0))


def test_a_mask_that_changed_after_the_scan_stops_the_part(tiny: World, folder: Path) -> None:
    photo(0, 0).save(folder / "a.png")
    checkered().save(folder / "a_mask.png")
    make_plan(tiny.out, tiny.scan(), tiny.data, tiny.hash)
    checkered((80, 80)).save(folder / "a_mask.png")
    with pytest.raises(OSError, match="changed while the dataset was being built"):
        PartAnalyser(tiny.data, tiny.perception, tiny.hash)(0)


def test_a_bound_that_was_lowered_after_the_scan(tiny: World, folder: Path, pack: Path) -> None:
    """The scan remembers hashes of files that are now too large: they are rows with a reason, not the end of the build."""
    photo(0, 0).save(folder / "large.png")
    source = tiny.scan()
    lower = world(folder.parent, pack, tiny.data.output, max_bytes=1000)
    make_plan(lower.out, source, lower.data, lower.hash)
    PartAnalyser(lower.data, lower.perception, lower.hash)(0)
    (row,) = lower.out.read_table(part_name(0)).to_pylist()
    assert row["outcome"] == "decode_error" and "more than the 1,000 allowed" in row["error"]


def test_a_picture_without_any_contrast_has_finite_features(tiny: World, folder: Path) -> None:
    """The tiny recogniser answers zero to one even colour: a face of no direction must not become NaN."""
    Image.new("RGB", (160, 160), "white").save(folder / "even.png")
    row = rows_of(tiny)["even.png"]
    assert row["n_faces"] == 1 and row["embedding_norm"] == 0
    assert np.isfinite(row["embedding"]).all()


def test_batches_change_nothing(tiny: World, folder: Path) -> None:
    for number in range(5):
        photo(number, 0).save(folder / f"{number}.png")
    (folder / "bad.png").write_text("bad")
    images = list_images(tiny.data).images
    planned = [
        {"path": i.path, "mask_path": None, "mask_is_given": False, **row}
        for i, row in zip(images, hash_images(images, 10**6), strict=True)
    ]

    def rows(size: int) -> Iterator[dict[str, Any]]:
        perception = tiny.perception.model_copy(update={"batch_size": size})
        return PartAnalyser(tiny.data, perception, "h").analyse(planned)

    tables = [pa.Table.from_pylist(list(rows(size)), schema=FEATURES) for size in (1, 2, 6, 100)]
    assert tables[0]["image_id"].to_pylist() == [item["image_id"] for item in planned], "in the order of the plan"
    for table in tables[1:]:
        for name in FEATURES.names:
            if name == "embedding":
                for a, b in zip(tables[0][name].to_pylist(), table[name].to_pylist(), strict=True):
                    assert a is b is None or np.allclose(a, b, atol=1e-5)
            elif name != "embedding_norm":
                assert table[name].equals(tables[0][name]), name


def test_an_empty_part_is_an_empty_file(tiny: World, folder: Path) -> None:
    photo(0, 0).save(folder / "a.png")
    source = tiny.scan()
    make_plan(tiny.out, source, tiny.data, tiny.hash)
    make_plan(tiny.out, source.slice(0, 0), tiny.data, tiny.hash)
    assert read_part_plan(tiny.out, 0) == []
    assert PartAnalyser(tiny.data, tiny.perception, tiny.hash)(0)["images"] == 0
    table = tiny.out.read_table(part_name(0))
    assert len(table) == 0 and table.schema.metadata[b"analyse_hash"].decode() == tiny.hash


def test_the_hash_covers_what_features_depend_on(tiny: World, pack: Path, tmp_path: Path) -> None:
    def with_data(**data: Any) -> str:
        return analyse_hash(tiny.data.model_copy(update=data), tiny.perception, {"recognition": "a"})

    def with_perception(**perception: Any) -> str:
        return analyse_hash(tiny.data, tiny.perception.model_copy(update=perception), {"recognition": "a"})

    base = with_data()
    changed = [
        with_data(image_size=128),
        with_data(resize="squeeze"),
        with_data(max_pixels=5),
        with_data(part_size=3),
        with_data(seed=1),
        with_perception(border=0.5),
        with_perception(detector_sizes=(32,)),
        with_perception(parser=None),
        analyse_hash(tiny.data, tiny.perception, {"recognition": "b"}),
    ]
    assert len({base, *changed}) == len(changed) + 1
    assert base == with_data(min_face=1, output="/elsewhere", shard_size=3, profile="original")
    assert base == with_perception(batch_size=3, threads=2, device="cpu", pack=str(make_pack(tmp_path / "elsewhere")))


def test_png_of_planes() -> None:
    plane = np.random.default_rng(0).integers(0, 19, (64, 48)).astype(np.uint8)
    image = Image.open(io.BytesIO(png(plane)))
    assert image.mode == "L" and image.format == "PNG"
    np.testing.assert_array_equal(np.asarray(image), plane)
