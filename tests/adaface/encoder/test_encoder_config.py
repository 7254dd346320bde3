"""What an encoder is made of, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from transformers import CLIPTokenizer

from adaface.encoder.config import EncoderConfig
from adaface.miniature.networks.tokenizer import build_tokenizer
from tests.adaface.encoder.golden_files import INVERSE_TOKENS, TEACHER_TOKENS
from tests.adaface.encoder.tiny_encoder import BACKGROUND, END, TEXT, config

CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}


def test_json_brings_it_back():
    made = config(background=BACKGROUND, teacher="teacher", face_pack="package://some/pack")
    again = EncoderConfig.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made and isinstance(again.multipliers, tuple)


def test_the_real_tokenizer_gives_the_originals_prompts(shared):
    tokenizer = CLIPTokenizer.from_pretrained(shared / "models" / "clip_tokenizer")
    made = EncoderConfig.for_tokenizer(tokenizer, id_dim=512, text=CLIP_L)
    assert made.teacher_tokens == TEACHER_TOKENS and made.inverse_tokens == INVERSE_TOKENS
    assert (made.id_token, made.pad_token, made.slot, made.width, made.window) == (1014, 49407, 4, 768, 77)
    assert made.multipliers == (1,) * 12
    assert made.padded(made.teacher_tokens, 9) == (*TEACHER_TOKENS, 49407, 49407)
    assert made.padded(made.teacher_tokens, 5) == TEACHER_TOKENS[:5]


def test_words_that_fall_apart_are_refused():
    tokenizer = build_tokenizer(["photo", "of", "a", "person"])
    with pytest.raises(ValueError, match="`id` falls into 2 tokens"):
        EncoderConfig.for_tokenizer(tokenizer, id_dim=8, text=TEXT)


def test_unknown_and_missing_values_are_all_named():
    values = config().to_dict()
    del values["pad_token"]
    with pytest.raises(ValueError, match=r"unknown 'multiplier' \(meant 'multipliers'\?\); pad_token is missing"):
        EncoderConfig.from_dict({**values, "multiplier": 2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id_dim": 33}, r"id_dim 33 must lie in 1\.\.32"),
        ({"id_dim": "8"}, "id_dim must be a whole number"),
        ({"multipliers": (1, 2)}, "multipliers names 2 layers, the inverse encoder has 4"),
        ({"multipliers": (1, 2, 0, 1)}, "must be at least 1"),
        ({"multipliers": 4}, "multipliers must be a list of whole numbers"),
        ({"id_token": 5}, "id_token 5 must stand once in teacher_tokens"),
        ({"inverse_tokens": (62, 1, 2, 3, *[7] * 15, 63)}, "16 equal tokens from place 4 on"),
        ({"inverse_tokens": (62, 1, 2, 3, *[7] * 15, 8, 63)}, "16 equal tokens from place 4 on"),
        ({"pad_token": 64}, r"token ids \[64\] lie outside of the vocabulary of 64"),
        ({"text": {**TEXT, "hiden_act": "gelu"}}, r"text: unknown 'hiden_act' \(meant 'hidden_act'\?\)"),
        ({"text": {**TEXT, "num_attention_heads": 5}}, "cannot be cut into 5 heads"),
        ({"text": {**TEXT, "hidden_act": 3}}, "hidden_act must be a text"),
        ({"text": {**TEXT, "hidden_act": "quickgelu"}}, r"hidden_act 'quickgelu' is no .* \(meant 'quick_gelu'\?\)"),
        ({"text": {**TEXT, "max_position_embeddings": 21}}, "a window of 21 tokens is shorter"),
        ({"text": {"hidden_size": 32}}, "text: vocab_size is missing; text: intermediate_size is missing"),
        ({"text": 7}, "text must be a table of sizes"),
        ({"background": {**BACKGROUND, "heads": 6}}, "background: the width 32 cannot be cut into 6 heads"),
        ({"background": {"colour": 1}}, "background: unknown 'colour'"),
        ({"teacher": None}, "teacher must be a text"),
    ],
)
def test_wrong_values_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(config(), **change)


def test_all_problems_come_at_once():
    with pytest.raises(ValueError, match=r"id_dim 99 .*; multipliers names 1 layers.*; token ids"):
        replace(config(), id_dim=99, multipliers=(1,), pad_token=END + 1)
