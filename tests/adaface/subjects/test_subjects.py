"""A person in real pipelines of five kinds, and the way back out of them."""

import importlib.util

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors.torch import load_file

from adaface.subjects.subject import load_adaface
from tests.adaface.subjects.tiny_pipelines import (
    ID_DIM,
    KINDS,
    WIDTH,
    build_encoder,
    build_parts,
    build_pipeline,
    draw,
)

HORSE = "z riding a horse, oil painting"


def person(seed: int, photos: int = 3) -> torch.Tensor:
    """ID embeddings (N, id_dim)."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(ID_DIM, generator=generator)
    return centre + 0.1 * torch.randn(photos, ID_DIM, generator=generator)


def state_of(pipe) -> dict[str, object]:
    """Every byte that a text encoder and a tokenizer are made of, and what their modules know about themselves."""
    text = pipe.text_encoder
    return {
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in text.state_dict().items()},
        "parameters": [(name, id(tensor), tensor.requires_grad) for name, tensor in text.named_parameters()],
        "config": text.config.to_dict(),
        "attributes": sorted(vars(text)),
        "embedding": repr(text.get_input_embeddings()),
        "hooks": [len(module._forward_hooks) for module in text.modules()],
        "vocabulary": pipe.tokenizer.get_vocab(),
        "tokenizer": pipe.tokenizer._tokenizer.to_str(),
        "length": len(pipe.tokenizer),
        "ids": pipe.tokenizer("a <z> horse").input_ids,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_in_every_kind_of_pipeline(pipelines, tiny_encoder, kind):
    pipe, arguments = pipelines(kind)
    adaface = load_adaface(pipe, tiny_encoder)
    anna, ben = adaface.subject(ids=person(1)), adaface.subject(ids=person(2))
    drawn = draw(pipe, arguments, **anna.prompt(HORSE), guidance_scale=6)
    assert drawn.isfinite().all()
    assert torch.equal(drawn, draw(pipe, arguments, **anna.prompt(HORSE), guidance_scale=6))
    assert not torch.equal(drawn, draw(pipe, arguments, **ben.prompt(HORSE), guidance_scale=6))
    assert not torch.equal(drawn, draw(pipe, arguments, **anna.prompt("z smiling"), guidance_scale=6))
    # longer prompts, a batch, without guidance
    long = anna.prompt(["horse " * 80 + "z", "z"], long_prompts="chunk")
    if kind in ("text-to-image", "animatediff"):
        assert len(draw(pipe, arguments, **long, guidance_scale=1)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_those_of_a_textual_inversion(tiny_encoder, kind):
    """The picture of `prompt()` is the one of a plain prompt with the installed name."""
    pipe, arguments = build_pipeline(kind)
    adaface = load_adaface(pipe, tiny_encoder)
    anna = adaface.subject(ids=person(1))
    drawn = draw(pipe, arguments, **anna.prompt(HORSE, negative_prompt="blurry"), guidance_scale=6)
    name = anna.install()
    plain = draw(pipe, arguments, prompt=HORSE.replace("z", name), negative_prompt="blurry", guidance_scale=6)
    torch.testing.assert_close(drawn, plain, rtol=0, atol=1e-5)


def test_schedulers_and_loras_stay(tiny_encoder):
    pipe, arguments = build_pipeline("text-to-image")
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    anna = load_adaface(pipe, tiny_encoder).subject(ids=person(1))
    drawn = draw(pipe, arguments, steps=3, **anna.prompt(HORSE))
    assert isinstance(pipe.scheduler, DPMSolverMultistepScheduler) and drawn.isfinite().all()
    if importlib.util.find_spec("peft") is None:
        pytest.skip("LoRAs in diffusers need peft")
    from peft import LoraConfig

    lora = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipe.unet.add_adapter(lora)
    assert not torch.equal(drawn, draw(pipe, arguments, steps=3, **anna.prompt(HORSE)))


def test_nothing_is_encoded_twice(tiny_encoder):
    pipe, arguments = build_pipeline("text-to-image")
    adaface = load_adaface(pipe, tiny_encoder)
    models = {
        "teacher": tiny_encoder.teacher, "inverse": tiny_encoder.inverse,
        "text": pipe.text_encoder, "unet": pipe.unet,
    }  # fmt: skip
    calls = dict.fromkeys(models, 0)

    def counted(name):
        def count(*_):
            calls[name] += 1

        return count

    hooks = [model.register_forward_hook(counted(name)) for name, model in models.items()]
    try:
        both = adaface.subjects({"z": person(1), "y": person(2)})
        assert calls == {"teacher": 1, "inverse": 1, "text": 0, "unet": 0}  # for all people together
        # once for all prompts, once for all negative ones
        states = both.prompt(["z and y", "z", "y smiling"], images_per_prompt=2)
        assert calls == {"teacher": 1, "inverse": 1, "text": 2, "unet": 0}
        assert len(draw(pipe, arguments, steps=5, **states)) == 6
        assert calls == {"teacher": 1, "inverse": 1, "text": 2, "unet": 5}
    finally:
        for hook in hooks:
            hook.remove()


def test_the_vectors_are_the_encoders(pipelines, tiny_encoder):
    pipe, _ = pipelines("text-to-image")
    ids = person(1)
    subject = load_adaface(pipe, tiny_encoder).subject(ids=ids, id_scale=2.0, token="anna")
    unit = torch.nn.functional.normalize(ids, dim=-1).mean(0, keepdim=True)
    unit = unit / unit.norm()
    torch.testing.assert_close(subject.identity, unit[0])
    with torch.no_grad():
        torch.testing.assert_close(subject.vectors, tiny_encoder(unit, id_scale=2.0)[0])
    assert not subject.vectors.requires_grad and subject.vectors.shape == (16, WIDTH)


def test_noise_is_drawn_from_the_generator(pipelines, tiny_encoder):
    adaface = load_adaface(pipelines("text-to-image")[0], tiny_encoder)
    noisy = [
        adaface.subject(ids=person(1), noise=0.1, generator=torch.Generator().manual_seed(seed)).identity
        for seed in (10, 10, 11)
    ]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    plain = adaface.subject(ids=person(1).numpy()).identity
    assert all(0.9 < float(plain @ one) < 0.9999 for one in noisy)
    torch.testing.assert_close(noisy[0].norm(), torch.tensor(1.0))


def test_install_and_unload_give_the_pipeline_back(tiny_encoder):
    pipe, arguments = build_pipeline("text-to-image")
    pipe.load_textual_inversion(torch.randn(2, WIDTH), token="<style>")
    before = state_of(pipe)
    adaface = load_adaface(pipe, tiny_encoder)
    both = adaface.subjects({"z": person(1), "y": person(2)})
    assert both.install() == ["<z>", "<y>"]
    assert both["z"].install("anna") == "anna"
    assert state_of(pipe) != before
    embedded = pipe.encode_prompt("<z> with <y>, <style>", "cpu", 1, False)[0]
    assert torch.equal(embedded, both.prompt("z with y, <style>")["prompt_embeds"])
    drawn = draw(pipe, arguments, prompt="<z> and anna")
    with pytest.raises(ValueError, match="has <z> already"):
        both["z"].install()
    adaface.unload()
    assert state_of(pipe) == before
    adaface.unload()
    assert state_of(pipe) == before
    # and it can be done again
    both.install()
    both["z"].install("anna")
    assert torch.equal(draw(pipe, arguments, prompt="<z> and anna"), drawn)


def test_unload_leaves_what_came_later(tiny_encoder):
    pipe, _ = build_pipeline("text-to-image")
    later = torch.randn(2, WIDTH)
    pipe.load_textual_inversion(later, token="<style>")
    expected = pipe.encode_prompt("a <style> horse", "cpu", 1, False)[0]
    other, _ = build_pipeline("text-to-image")
    adaface = load_adaface(other, tiny_encoder)
    adaface.subject(ids=person(1)).install()
    other.load_textual_inversion(later, token="<style>")
    adaface.unload()
    assert torch.equal(other.encode_prompt("a <style> horse", "cpu", 1, False)[0], expected)
    assert other.tokenizer.get_vocab() == pipe.tokenizer.get_vocab()
    assert other.text_encoder.config.vocab_size == pipe.text_encoder.config.vocab_size


def test_unload_follows_a_pipeline_that_was_cast(tiny_encoder):
    pipe, _ = build_pipeline("text-to-image")
    adaface = load_adaface(pipe, tiny_encoder)
    adaface.subject(ids=person(1)).install()
    pipe.to(torch.float16)
    adaface.unload()
    expected, _ = build_pipeline("text-to-image")
    expected.to(torch.float16)
    found, wanted = pipe.text_encoder.state_dict(), expected.text_encoder.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


def test_saved_vectors_are_a_textual_inversion(pipelines, tiny_encoder, tmp_path):
    anna = load_adaface(pipelines("text-to-image")[0], tiny_encoder).subject(ids=person(1))
    file = anna.save(tmp_path / "made" / "anna.safetensors")
    saved = load_file(file)
    assert list(saved) == ["<z>"] and torch.equal(saved["<z>"], anna.vectors)
    assert [path.name for path in file.parent.iterdir()] == ["anna.safetensors"]
    other, _ = build_pipeline("text-to-image")
    other.load_textual_inversion(str(file))
    found = other.encode_prompt(HORSE.replace("z", "<z>"), "cpu", 1, False)[0]
    assert torch.equal(found, anna.prompt(HORSE)["prompt_embeds"])
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        anna.save(tmp_path / "anna.bin")


def test_an_encoder_is_loaded_from_its_folder(pipelines, tiny_encoder, tmp_path):
    pipe, _ = pipelines("text-to-image")
    tiny_encoder.save_pretrained(tmp_path / "encoder")
    loaded = load_adaface(pipe, tmp_path / "encoder").subject(ids=person(1))
    assert torch.equal(loaded.vectors, load_adaface(pipe, tiny_encoder).subject(ids=person(1)).vectors)


def test_the_dtype_follows_the_pipeline(tiny_encoder):
    pipe = StableDiffusionPipeline(**build_parts(), requires_safety_checker=False).to(torch.bfloat16)
    anna = load_adaface(pipe, tiny_encoder).subject(ids=person(1))
    assert anna.vectors.dtype == torch.float32  # the encoder's
    assert {states.dtype for states in anna.prompt(HORSE).values()} == {torch.bfloat16}


def test_what_does_not_fit_is_refused(pipelines, tiny_encoder):
    pipe, _ = pipelines("text-to-image")
    with pytest.raises(ValueError, match="vectors of 48 values, and the pipeline's text encoder reads 32"):
        load_adaface(pipe, build_encoder(width=48))
    with pytest.raises(ValueError, match="has no tokenizer and text encoder"):
        load_adaface(object(), tiny_encoder)
    with pytest.raises(ValueError, match="its own"):
        load_adaface(pipe, tiny_encoder, dtype=torch.float16)
    adaface = load_adaface(pipe, tiny_encoder)
    with pytest.raises(ValueError, match="images= or from ids="):
        adaface.subject()
    with pytest.raises(ValueError, match="24"):
        adaface.subject(ids=torch.randn(2, ID_DIM + 1))
    with pytest.raises(ValueError, match=r"must be \(N, id_dim\)"):
        adaface.subject(ids=torch.zeros(2, 2, ID_DIM))
    with pytest.raises(ValueError, match="zero, not finite"):
        adaface.subject(ids=torch.zeros(ID_DIM))
    for token in ("", "my friend", "z:1", "(z)"):
        with pytest.raises(ValueError, match="one word"):
            adaface.subject(ids=person(1), token=token)
    with pytest.raises(ValueError, match="nobody"):
        adaface.subjects({})
    with pytest.raises(ValueError, match="no face pack is known"):
        adaface.subject(images=[np.zeros((8, 8, 3), np.uint8)])


def test_people_are_named_in_errors(pipelines, tiny_encoder):
    adaface = load_adaface(pipelines("text-to-image")[0], tiny_encoder)
    with pytest.raises(ValueError) as error:
        adaface.subjects({"z": torch.zeros(ID_DIM), "y": torch.zeros(3)})
    assert [line[:2] for line in str(error.value).splitlines()] == ["z:", "y:"]
