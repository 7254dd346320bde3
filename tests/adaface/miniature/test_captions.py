"""Captions, and the tokenizer that reads them."""

from dataclasses import fields, replace

import numpy as np
import pytest

from adaface.miniature.networks.tokenizer import MAX_LENGTH, build_tokenizer
from adaface.miniature.world.captions import caption, class_caption, identity_phrase, vocabulary
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.names import name_of
from adaface.miniature.world.scene import VOCABULARY, Scene


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(vocabulary())


def pairs(count: int, seed: int = 0) -> list[tuple[Identity, Scene]]:
    rng = np.random.default_rng(seed)
    return [(Identity.sample(rng), Scene.sample(rng)) for _ in range(count)]


def test_every_word_of_the_vocabulary_is_one_token(tokenizer):
    for word in vocabulary():
        assert len(tokenizer(word).input_ids) == 3, word  # with start and end
    for word in ("id", "z", "y", ","):
        assert word in vocabulary()


def test_unknown_words_fall_into_pieces_and_come_back(tokenizer):
    ids = tokenizer("a photo of a xylophone").input_ids
    assert len(ids) > len(tokenizer("a photo of a photo").input_ids)
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "a photo of a xylophone"


def test_captions_use_known_words_alone_and_fit_the_window(tokenizer):
    known, rng = set(vocabulary()), np.random.default_rng(1)
    for person, scene in pairs(1500):
        text = caption(person, scene, rng)
        assert set(text.split()) <= known, text
        assert len(tokenizer(text).input_ids) <= MAX_LENGTH, text


def test_the_standard_caption_says_everything():
    for person, scene in pairs(100):
        text = caption(person, scene)
        assert person.class_word in text and all(trait in text for trait in person.main_traits())
        for field, words in VOCABULARY.items():
            word = getattr(scene, field)
            if word != words[0]:
                assert word in text, (word, text)


def test_traits_stand_directly_after_a_photo_of_a():
    for person, scene in pairs(50):
        text = caption(person, Scene(place=scene.place))
        assert text.startswith(f"a photo of a {identity_phrase(person)}")
        assert class_caption(person, Scene()) == f"a photo of a {person.class_word}"


def test_a_name_says_every_factor_but_gender_and_age_and_fits_the_window(tokenizer):
    rng = np.random.default_rng(4)
    for person, scene in pairs(300):
        text = caption(person, scene, rng, named=1.0)
        assert name_of(person) in text and len(tokenizer(text).input_ids) <= MAX_LENGTH, text
        assert len(tokenizer(name_of(person)).input_ids) == 2 + 36
    person = pairs(1)[0][0]
    for field in fields(Identity):
        value, low = getattr(person, field.name), 0.0 if field.name == "skin" else -1.0
        far = (1.0 if value < 0 else low) if isinstance(value, float) else int(value == 0)
        other = name_of(replace(person, **{field.name: far}))
        assert (other == name_of(person)) == (field.name in ("age", "female")), field.name


def test_names_stand_in_their_share_of_the_captions():
    rng = np.random.default_rng(5)
    told = [(name_of(p) in (text := caption(p, s, rng, named=0.6)), p.class_word in text) for p, s in pairs(1000)]
    assert np.mean([name for name, _ in told]) == pytest.approx(0.6, abs=0.05)
    assert np.mean([word for name, word in told if name]) == pytest.approx(0.7, abs=0.05)


def test_empty_words_and_bare_class_words_occur():
    rng = np.random.default_rng(2)
    texts = [caption(person, scene, rng) for person, scene in pairs(1000)]
    assert 0.1 < np.mean(["z" in text.split() for text in texts]) < 0.4
    assert 0.05 < np.mean([", , ," in text for text in texts]) < 0.4
    assert any(" with " not in text and " wearing " not in text for text in texts)


def test_wording_varies_and_is_drawn_from_the_generator():
    person, scene = pairs(1)[0]
    texts = {caption(person, scene, np.random.default_rng(seed)) for seed in range(20)}
    assert len(texts) > 15
    assert caption(person, scene, np.random.default_rng(3)) == caption(person, scene, np.random.default_rng(3))


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    from transformers import CLIPTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    for person, scene in pairs(20):
        text = caption(person, scene)
        assert again(text).input_ids == tokenizer(text).input_ids
    assert again.model_max_length == MAX_LENGTH
