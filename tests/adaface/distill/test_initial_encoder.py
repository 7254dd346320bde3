"""What a run starts with: a new encoder, or an earlier one with more copies, and never one with fewer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModel

from adaface.distill.background import BackgroundFeatures
from adaface.encoder.model import AdaFaceEncoder
from tests.adaface.distill.conftest import Tiny

CLIP = "package://adaface.miniature/weights/clip"
IDS = torch.eye(192)[:2]


def same(one: AdaFaceEncoder, other: AdaFaceEncoder) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_new_encoder_is_a_copy_of_the_text_model(tiny: Tiny) -> None:
    encoder = tiny.encoder()
    text = CLIPTextModel.from_pretrained(tiny.folder / "text").state_dict()
    assert all(
        torch.equal(tensor, text[name]) for name, tensor in encoder.inverse.state_dict().items() if name in text
    )
    assert encoder.config.id_dim == 192 and encoder.config.multipliers == (1, 1)
    assert encoder.config.teacher == str(tiny.folder / "teacher/text_encoder")
    assert encoder.training and not encoder.teacher.training
    assert same(encoder, tiny.encoder()), "nothing is drawn"


def test_rounds_multiply_copies(tiny: Tiny, tmp_path: Path) -> None:
    first = tiny.encoder()
    first.save_pretrained(tmp_path / "one", teacher="reference")
    same_again = tiny.encoder(init=str(tmp_path / "one"))
    assert same(same_again, first)
    second = tiny.encoder(init=str(tmp_path / "one"), multiplier=2)
    assert second.config.multipliers == (2, 2)
    assert same(second, tiny.encoder(init=str(tmp_path / "one"), multiplier=2)), "noise comes from the seed"
    assert not same(second, tiny.encoder(init=str(tmp_path / "one"), multiplier=2, seed=4))
    second.save_pretrained(tmp_path / "two", teacher="reference")
    fourth = tiny.encoder(init=str(tmp_path / "two"), multiplier=4)
    assert fourth.config.multipliers == (4, 4)
    # copies begin near what they are copies of
    before, after = first.eval()(IDS), second.eval()(IDS)
    assert 0 < float((after - before).abs().mean().detach()) < 0.5 * float(before.abs().mean().detach())


def test_the_teacher_is_the_configurations_or_the_copy_that_the_encoder_brings(tiny: Tiny, tmp_path: Path) -> None:
    first = tiny.encoder()
    first.config = replace(first.config, teacher="/another/machine/text_encoder")
    first.save_pretrained(tmp_path / "moved", teacher="reference")
    again = tiny.encoder(init=str(tmp_path / "moved"))
    assert same(again, first) and again.config.teacher == str(tiny.folder / "teacher/text_encoder")
    first.save_pretrained(tmp_path / "whole", teacher="copy")
    whole = tiny.encoder(init=str(tmp_path / "whole"))
    assert same(whole, first) and whole.teacher_folder == tmp_path / "whole/teacher"


@pytest.mark.parametrize(("there", "asked"), [(4, 2), (4, 1), (2, 3)])
def test_copies_cannot_be_taken_away(tiny: Tiny, tmp_path: Path, there: int, asked: int) -> None:
    tiny.encoder(multiplier=there).save_pretrained(tmp_path / "round", teacher="reference")
    with pytest.raises(ValueError, match=rf"round has {there} keys .* asks for {asked}: .*README has 4 and then 2"):
        tiny.encoder(init=str(tmp_path / "round"), multiplier=asked)


def test_a_background_generator_comes_with_its_features(tiny: Tiny, tmp_path: Path) -> None:
    features = BackgroundFeatures(CLIP)
    encoder = tiny.encoder(background=features, unet_layers=3)
    assert encoder.background is not None
    around = torch.randn(2, features.tokens, features.width, generator=torch.Generator().manual_seed(1))
    assert encoder.background(around).shape == (2, 3, 4, 192)
    assert same(encoder, tiny.encoder(background=features, unet_layers=3)), "its weights come from the seed"
    assert not same(encoder, tiny.encoder(background=features, unet_layers=3, seed=4))
    encoder.save_pretrained(tmp_path / "with", teacher="reference")
    assert same(encoder, tiny.encoder(init=str(tmp_path / "with"), background=features, unet_layers=3))
    with pytest.raises(ValueError, match="background generator is for 3 layers"):
        tiny.encoder(init=str(tmp_path / "with"), background=features, unet_layers=16)


def test_a_background_generator_of_the_original_drops_nothing(tiny: Tiny, tmp_path: Path) -> None:
    """Its random numbers would be torch's global ones, which no checkpoint keeps."""
    features = BackgroundFeatures(CLIP)
    encoder = tiny.encoder(background=features)
    encoder.config = replace(encoder.config, background={**(encoder.config.background or {}), "dropout": 0.05})
    encoder.save_pretrained(tmp_path / "converted", teacher="reference")
    again = tiny.encoder(init=str(tmp_path / "converted"), background=features)
    assert again.training and again.background is not None
    around = torch.randn(2, features.tokens, features.width, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.background(around), again.background(around))
    assert again.config.background is not None and again.config.background["dropout"] == 0


def test_what_is_not_there(tiny: Tiny, tmp_path: Path) -> None:
    for key in ("teacher_text", "text_model", "tokenizer"):
        with pytest.raises(FileNotFoundError, match="there is no such folder"):
            tiny.encoder(**{key: str(tmp_path / "nothing")})
    with pytest.raises(FileNotFoundError):
        tiny.encoder(init=str(tmp_path / "nothing"))
