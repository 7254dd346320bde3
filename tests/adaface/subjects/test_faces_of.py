"""Photos -> one ID embedding, and never a guess."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from adaface.perception.faces import Face, FaceResult
from adaface.subjects.faces_of import check_faces, face_ids, list_photos, mean_id, open_faces, read_photo
from tests.tiny_world import make_pack, photo


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A real analyser of tiny models: sees one face in every picture that is not black."""
    return open_faces(str(make_pack(tmp_path_factory.mktemp("pack"))))


class Crowd:
    """Stands in for an analyser: the picture's first value is how many faces there are, each `shrink` times smaller."""

    def __init__(self, shrink: float):
        self.shrink = shrink

    def analyse(self, images):
        return [self.result(int(image[0, 0, 0])) for image in images]

    def result(self, count: int) -> FaceResult:
        sides = [50 * self.shrink ** (number / 2) for number in range(count)]
        faces = [Face(np.array([0, 0, side, side]), 0.9, np.zeros((5, 2))) for side in sides]
        return FaceResult(faces, embedding=np.eye(4, dtype=np.float32)[0]) if faces else FaceResult()


def picture(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def test_one_embedding_for_each_photo_of_any_kind(faces, tmp_path):
    image = photo(1, 0)
    image.save(tmp_path / "a.png")
    found = face_ids([tmp_path / "a.png", str(tmp_path / "a.png"), image, np.asarray(image)], faces)
    assert found.shape == (4, 192) and found.dtype == torch.float32
    assert all(torch.equal(row, found[0]) for row in found)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4))
    assert torch.equal(face_ids(image, faces), found[:1])


def test_folders_are_sorted_and_masks_are_no_photos(tmp_path):
    for name in ("b.JPG", "a.png", "a_mask.png", "c.webp", "notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"-")
    (tmp_path / "more").mkdir()
    names = [tmp_path / "a.png", tmp_path / "b.JPG", tmp_path / "c.webp"]
    assert [name for name, _ in list_photos(tmp_path)] == list(map(str, names))
    # also not where a shell has written out a *
    assert [name for name, _ in list_photos(sorted(tmp_path.glob("a*")))] == [str(tmp_path / "a.png")]
    with pytest.raises(ValueError, match="only mask files"):
        list_photos([tmp_path / "a_mask.png"])
    with pytest.raises(ValueError, match="list of images is empty"):
        list_photos([])


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "people" / "anna").mkdir(parents=True)
    with pytest.raises(ValueError) as error:
        list_photos([tmp_path / "people", tmp_path / "people" / "anna", tmp_path / "x.jpg"])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert "people: no photos" in lines[0] and "name one of the 1 folders" in lines[0]
    assert "anna: no photos" in lines[1] and "x.jpg: no such file" in lines[2]


def test_exif_orientation_is_respected(faces, tmp_path):
    upright = photo(2, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    assert np.array_equal(read_photo(tmp_path / "turned.png"), np.asarray(upright))
    turned, straight = (face_ids(tmp_path / f"{name}.png", faces) for name in ("turned", "upright"))
    assert torch.equal(turned, straight)
    with Image.open(tmp_path / "turned.png") as image:  # in memory too
        assert np.array_equal(read_photo(image), np.asarray(upright))


def test_any_mode_becomes_rgb(tmp_path):
    assert read_photo(np.full((5, 6), 7, np.uint8)).shape == (5, 6, 3)
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert (read_photo(clear) == 255).all()
    assert (read_photo(Image.new("LA", (4, 4), (9, 255))) == 9).all()
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert (read_photo(tmp_path / "deep.png") == 128).all()
    assert read_photo(Image.new("CMYK", (4, 4))).shape == (4, 4, 3)


def test_all_doubtful_photos_are_named(faces, tmp_path):
    photo(1, 0).save(tmp_path / "good.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:1500])
    Image.new("RGB", (64, 64)).save(tmp_path / "black.jpg")
    with pytest.raises(ValueError) as error:
        face_ids([tmp_path, np.zeros((4, 4), np.float32)], faces)
    problems = {line.split(": ")[0].rpartition("/")[2]: line for line in str(error.value).splitlines()}
    assert set(problems) == {"text.jpg", "half.jpg", "black.jpg", "image 2"}
    assert "not an image" in problems["text.jpg"] and "cannot be read" in problems["half.jpg"]
    assert "no face found" in problems["black.jpg"] and "float32" in problems["image 2"]


def test_equally_large_faces_are_refused_and_smaller_ones_not():
    assert len(face_ids([picture(1), picture(3)], Crowd(0.79))) == 2
    with pytest.raises(ValueError) as error:
        face_ids([picture(1), picture(3), picture(0), picture(2)], Crowd(0.8 + 1e-9))
    two, none, pair = str(error.value).splitlines()
    assert two.startswith("image 2: 2 faces of about the same size (50 px, 45 px)")  # the third one is smaller
    assert none == "image 3: no face found" and pair.startswith("image 4: 2 faces")


def test_real_photos(shared, tmp_path):
    """One person's photos agree; two portraits side by side are refused."""
    faces = open_faces(str(shared / "models" / "real_pack"))
    folder = shared / "faces" / "michelleyeoh"
    files = [file for _, file in list_photos(folder)][:3]
    ids = face_ids(files, faces)
    assert (ids @ mean_id(ids)).min() > 0.6
    with Image.open(files[0]) as image:
        one = image.convert("RGB").resize((256, 256))
    both = Image.new("RGB", (512, 256))
    both.paste(one, (0, 0))
    both.paste(one, (256, 0))
    both.save(tmp_path / "both.png")
    with pytest.raises(ValueError, match=r"both\.png: 2 faces of about the same size"):
        face_ids([files[1], tmp_path / "both.png"], faces)


def test_one_person_is_the_mean_of_unit_embeddings():
    ids = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)) + 1
    mean = mean_id(ids)
    torch.testing.assert_close(mean.norm(), torch.tensor(1.0))
    torch.testing.assert_close(mean, mean_id(ids.flip(0) * torch.tensor([[1.0], [2], [3], [4], [5]])))
    torch.testing.assert_close(mean_id(ids[0].double()), ids[0] / ids[0].norm())


def test_packs_that_do_not_go_with_the_encoder_are_refused(faces, tmp_path):
    with pytest.raises(ValueError, match="gives embeddings of 192 values, the encoder reads 512"):
        check_faces(faces, 512, "pack")
    with pytest.raises(ValueError, match="no face pack is known"):
        open_faces("")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_faces(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("package", ["insightface", "pydantic"])
def test_without_what_reads_faces_ids_are_asked_for(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith("adaface.perception.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=f"{package} is missing.*with ids="):
        open_faces("pack")
