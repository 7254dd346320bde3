"""The baseline is the plain pipeline with the class word in the prompt."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.config import ClassWordConfig
from adaface.evaluation.methods.open import open_method
from adaface.evaluation.prompts import Prompt
from tests.adaface.evaluation.methods.tiny_methods import drawn_by, requests


@pytest.mark.parametrize("negative", ["a drawing", None])
def test_it_draws_what_the_pipeline_draws_from_the_prompt(base, generation, anna, ids, negative):
    plain = generation.model_copy(update={"clip_skip_weights": None, "negative_prompt": negative})
    method = open_method(ClassWordConfig(kind="class_word"), plain)
    (picture,) = method.draw(method.prepare(anna, [], ids), requests(8))
    expected = drawn_by(base.pipe, plain, 8, prompt="a photo of a young woman on a beach", negative_prompt=negative)
    assert np.array_equal(picture, expected)


def test_the_last_layers_are_mixed_as_configured(generation, anna, ids):
    last = open_method(ClassWordConfig(kind="class_word"), generation.model_copy(update={"clip_skip_weights": None}))
    mixed = open_method(ClassWordConfig(kind="class_word"), generation)
    a, b = (m.draw(m.prepare(anna, [], ids), requests(8))[0] for m in (last, mixed))
    assert not np.array_equal(a, b)


def test_the_class_word_is_that_of_the_request_and_the_face_is_not_looked_at(generation, anna, ids):
    method = open_method(ClassWordConfig(kind="class_word"), generation)
    prepared = method.prepare(anna, [], ids)
    woman, man = (method.draw(prepared, requests(8, word=word))[0] for word in ("woman", "man"))
    assert not np.array_equal(woman, man)
    someone = method.prepare(anna, [], -ids)
    assert np.array_equal(method.draw(someone, requests(8, word="man"))[0], man)


def test_a_prompt_that_is_too_long_is_refused(generation, anna, ids):
    method = open_method(ClassWordConfig(kind="class_word"), generation)
    with pytest.raises(ValueError, match="too long"):
        method.draw(method.prepare(anna, [], ids), requests(1, prompt=Prompt("l", "c", "{} " + "a hat " * 50)))


def test_provenance(generation):
    assert open_method(ClassWordConfig(kind="class_word", name="plain"), generation).name == "plain"
    said = open_method(ClassWordConfig(kind="class_word"), generation).provenance()
    assert (said["kind"], said["base"]) == ("class_word", generation.base)
    assert all(len(digest) == 64 for digest in said["files"].values()) and len(said["files"]) > 6
