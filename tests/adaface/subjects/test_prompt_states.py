"""Text states with people in them, against the pipeline's own."""

import importlib.util

import pytest
import torch
from diffusers import StableDiffusionPipeline

from adaface.subjects.prompt_states import ORIGINAL_NEGATIVE, prompt_states
from tests.adaface.subjects.tiny_pipelines import LAYERS, WIDTH, build_parts, build_pipeline

PROMPTS = ["z riding a horse, oil painting", "a photo of z"]


@pytest.fixture(scope="module")
def pipe(pipelines):
    return pipelines("text-to-image")[0]


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    return torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(5)) * 0.5


def own(pipe, prompts, negatives=None, **settings):
    """(states, negative states) by the pipeline itself; (B, 77, D) each."""
    with torch.no_grad():
        return pipe.encode_prompt(prompts, "cpu", 1, True, negatives, **settings)


@pytest.mark.parametrize("prompts", ["a horse, oil painting", ["a horse", "a photo of a man, smiling"]])
@pytest.mark.parametrize("negative", [None, "low quality", ORIGINAL_NEGATIVE])
def test_without_a_subject_they_are_the_pipelines_bit_for_bit(pipe, prompts, negative):
    same_kind = [negative] * len(prompts) if negative and isinstance(prompts, list) else negative
    expected, without = own(pipe, prompts, same_kind)
    found = prompt_states(pipe, prompts, {}, negative_prompt=negative)
    assert torch.equal(found["prompt_embeds"], expected)
    assert torch.equal(found["negative_prompt_embeds"], without)


@pytest.mark.parametrize("skip", range(LAYERS + 1))
def test_clip_skip_is_diffusers(pipe, skip, monkeypatch):
    # diffusers 0.42 looks for the final norm where transformers 4 had it
    monkeypatch.setitem(vars(pipe.text_encoder), "text_model", pipe.text_encoder)
    expected, without = own(pipe, PROMPTS, ["low quality"] * 2, clip_skip=skip)
    found = prompt_states(pipe, PROMPTS, {}, negative_prompt="low quality", clip_skip=skip)
    assert torch.equal(found["prompt_embeds"], expected)
    assert torch.equal(found["negative_prompt_embeds"], without)


def test_layer_weights_are_the_originals(pipe, vectors):
    text = pipe.text_encoder
    found = prompt_states(pipe, "a horse", {}, negative_prompt=None, layer_weights=(1, 3))
    for name, prompt in (("prompt_embeds", "a horse"), ("negative_prompt_embeds", "")):
        tokens = pipe.tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        with torch.no_grad():
            states = text(tokens, output_hidden_states=True).hidden_states
            expected = text.final_layer_norm((states[-2] + 3 * states[-1]) / 4)
        torch.testing.assert_close(found[name], expected)
    one = prompt_states(pipe, "z", {"z": vectors}, layer_weights=(0, 2))["prompt_embeds"]
    assert torch.equal(one, prompt_states(pipe, "z", {"z": vectors})["prompt_embeds"])


def test_vectors_act_as_a_textual_inversion_of_them_does(pipelines, vectors):
    pipe, _ = build_pipeline("text-to-image")
    found = prompt_states(pipe, PROMPTS, {"z": vectors})["prompt_embeds"]
    pipe.load_textual_inversion(vectors, token="<w>")
    expected, _ = own(pipe, [prompt.replace("z", "<w>") for prompt in PROMPTS])
    assert torch.equal(found, expected)
    # and inversions that are there are used beside the subject
    mixed = prompt_states(pipe, "<w> and z", {"z": vectors})["prompt_embeds"]
    torch.testing.assert_close(mixed, own(pipe, "<w> and <w>")[0], rtol=0, atol=0)


def test_two_people_and_every_occurrence(pipe, vectors):
    both = {"z": vectors, "y": -vectors[:4]}
    found = prompt_states(pipe, "y and z and z", both)["prompt_embeds"]
    tokens = pipe.tokenizer("a a a a and " + "a " * 16 + "and " + "a " * 16, padding="max_length", max_length=77)
    text = pipe.text_encoder

    def put(_module, _arguments, embeddings):
        embeddings[0, 1:5], embeddings[0, 6:22], embeddings[0, 23:39] = -vectors[:4], vectors, vectors
        return embeddings

    with torch.no_grad(), text.get_input_embeddings().register_forward_hook(put):
        expected = text(torch.tensor([tokens.input_ids])).last_hidden_state
    assert torch.equal(found, expected)
    assert not torch.equal(found, prompt_states(pipe, "z and y and y", both)["prompt_embeds"])


def test_a_batch_is_its_prompts(pipe, vectors):
    together = prompt_states(pipe, PROMPTS, {"z": vectors}, negative_prompt=["blurry", "text"], images_per_prompt=2)
    for at, (prompt, negative) in enumerate(zip(PROMPTS, ["blurry", "text"], strict=True)):
        alone = prompt_states(pipe, prompt, {"z": vectors}, negative_prompt=negative)
        for name, states in together.items():
            assert states.shape == (4, 77, WIDTH)
            for copy in states[2 * at : 2 * at + 2]:
                torch.testing.assert_close(copy, alone[name][0], rtol=0, atol=1e-6)


def test_weights_act_on_words_and_people(pipe, vectors):
    plain = prompt_states(pipe, "z on a horse", {"z": vectors})["prompt_embeds"]
    weighed = prompt_states(pipe, "(z:1.5) on a [horse]", {"z": vectors})["prompt_embeds"]
    ratio = (weighed / plain).median(dim=-1).values[0]
    torch.testing.assert_close(ratio[1:17] / ratio[0], torch.full((16,), 1.5))
    torch.testing.assert_close(ratio[19] / ratio[0], torch.tensor(1 / 1.1))
    torch.testing.assert_close(weighed.mean(), plain.mean())
    heavy, light = (
        prompt_states(pipe, "z", {"z": vectors}, negative_prompt=text)["negative_prompt_embeds"]
        for text in ("(blurry:1.4)", "blurry")
    )
    assert not torch.equal(heavy, light)


def test_chunks_are_windows_side_by_side(pipe, vectors):
    long = "horse " * 70 + "z on a horse"
    found = prompt_states(pipe, [long, "z"], {"z": vectors}, negative_prompt="blurry", long_prompts="chunk")
    for states in found.values():
        assert states.shape == (2, 2 * 77, WIDTH)
    close = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(found["prompt_embeds"][0, :77], own(pipe, "horse " * 70)[0][0], **close)
    second = prompt_states(pipe, "z on a horse", {"z": vectors})["prompt_embeds"][0]
    torch.testing.assert_close(found["prompt_embeds"][0, 77:], second, **close)
    empty = own(pipe, "")[0][0]
    for row in (found["prompt_embeds"][1], *found["negative_prompt_embeds"]):
        torch.testing.assert_close(row[77:], empty, **close)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_they_have_the_pipelines_dtype(vectors, dtype):
    pipe = StableDiffusionPipeline(**build_parts(), requires_safety_checker=False).to(dtype)
    found = prompt_states(pipe, "(z:1.2) smiling", {"z": vectors}, layer_weights=(1, 1))
    assert {states.dtype for states in found.values()} == {dtype}
    assert all(states.isfinite().all() for states in found.values())
    assert torch.equal(prompt_states(pipe, "a horse", {})["prompt_embeds"], own(pipe, "a horse")[0])


def test_nothing_of_the_pipeline_changes(pipe, vectors):
    before = {name: tensor.clone() for name, tensor in pipe.text_encoder.state_dict().items()}
    tokenizer = pipe.tokenizer.get_vocab()
    prompt_states(pipe, PROMPTS, {"z": vectors}, clip_skip=1)
    with pytest.raises(ValueError, match="tokens too long"):
        prompt_states(pipe, "z " * 5, {"z": vectors})
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipe.text_encoder.state_dict().items())
    assert pipe.tokenizer.get_vocab() == tokenizer
    assert not pipe.text_encoder.get_input_embeddings()._forward_hooks


def test_all_problems_are_named_at_once(pipe, vectors):
    with pytest.raises(ValueError) as error:
        prompt_states(
            pipe, [], {"z": vectors}, negative_prompt=["a"], images_per_prompt=0, clip_skip=9, layer_weights=(0,),
            long_prompts="cut",
        )  # fmt: skip
    names = ("images_per_prompt", "clip_skip must", "exclude", "layer_weights", "long_prompts")
    for part in ("no prompt", "1 negative prompts", *names):
        assert part in str(error.value)
    long = "horse " * 76
    with pytest.raises(ValueError) as error:
        prompt_states(pipe, ["z", long], {"z": vectors}, negative_prompt=long)
    lines = str(error.value).splitlines()
    assert len(lines) == 2 and lines[0].startswith("prompt 2 ('horse") and "17 tokens too long" in lines[0]
    assert lines[1].startswith("negative prompt 1") and "1 token too long" in lines[1]


@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
def test_a_lora_scale_without_peft_is_refused(pipe):
    with pytest.raises(ValueError, match="needs LoRAs"):
        prompt_states(pipe, "a horse", {}, lora_scale=0.5)


def test_loras_on_the_text_encoder_count(vectors):
    peft = pytest.importorskip("peft", reason="LoRAs in diffusers need peft")
    pipe = StableDiffusionPipeline(**build_parts(), requires_safety_checker=False)
    plain = prompt_states(pipe, "z smiling", {"z": vectors})["prompt_embeds"]
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    pipe.text_encoder.add_adapter(lora)
    full = prompt_states(pipe, "z smiling", {"z": vectors})["prompt_embeds"]
    half = prompt_states(pipe, "z smiling", {"z": vectors}, lora_scale=0.5)["prompt_embeds"]
    none = prompt_states(pipe, "z smiling", {"z": vectors}, lora_scale=0.0)["prompt_embeds"]
    assert not torch.allclose(full, plain) and not torch.allclose(full, half)
    torch.testing.assert_close(none, plain)
    for scale in (None, 0.5):
        found = prompt_states(pipe, "a horse", {}, lora_scale=scale)["prompt_embeds"]
        assert torch.equal(found, own(pipe, "a horse", lora_scale=scale)[0])
