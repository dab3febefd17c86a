"""Text encoders of any kind, the one inside an image pipeline too, are edited like the rest."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import saetools as st
from saetools.errors import ConfigError, ShapeError
from saetools.intervene import (
    Add,
    AddDirection,
    Clamp,
    Condition,
    LatentTrigger,
    ProjectOut,
    Request,
    ablate,
    intervene,
    steer,
)
from saetools.intervene.directions import text_contrast
from saetools.models import from_hf
from saetools.models.base import LanguageModel, TextEncoder
from saetools.sae import SAE, build_sae

HOOK = "blocks.1.hook_resid_post"
N_TOKENS = 20


@pytest.fixture(scope="module")
def clip() -> TextEncoder:
    """A CLIP text model made from a config, as an image pipeline holds one (no projection)."""
    tokenizer = st.load_model("tiny-encoder").tokenizer
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=N_TOKENS,
        eos_token_id=tokenizer.sep_token_id,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    model = from_hf(transformers.CLIPTextModel(config).eval(), tokenizer, name="clip")
    assert isinstance(model, TextEncoder)
    return model


@pytest.fixture
def clip_sae() -> SAE:
    return build_sae("topk", d_in=32, n_latents=64, k=4, meta={"hook_name": HOOK})


def as_a_pipeline_does(model: TextEncoder, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Ids padded with the end token to the longest text, no attention mask, the first output."""
    end = model.tokenizer.sep_token_id
    ids = torch.full((len(prompts), N_TOKENS), end)
    for i, prompt in enumerate(prompts):
        row = model.tokenizer(prompt)["input_ids"]
        ids[i, : len(row)] = torch.tensor(row)
    hf: Any = model.hf
    with torch.no_grad():
        out: Tensor = hf(ids, attention_mask=None)[0]
    return ids, out


PROMPTS = ["a dog", "the big house by the water"]


def test_the_module_inside_a_pipeline_is_edited_when_the_pipeline_calls_it(
    clip: TextEncoder, clip_sae: SAE
) -> None:
    ids, before = as_a_pipeline_does(clip, PROMPTS)
    with steer(clip, clip_sae, {3: 5.0}) as probe:
        _, after = as_a_pipeline_does(clip, PROMPTS)
    assert probe.n_tokens == sum(len(clip.tokenizer(p)["input_ids"]) - 2 for p in PROMPTS)
    assert not torch.allclose(after, before, atol=1e-3)
    with steer(clip, clip_sae, {3: 5.0}, positions="every") as probe:
        as_a_pipeline_does(clip, PROMPTS)
    assert probe.n_tokens == ids.numel()  # the padding carries the meaning there, too
    assert torch.equal(as_a_pipeline_does(clip, PROMPTS)[1], before)


def test_a_call_past_the_head_is_a_pass_of_its_own(tiny_lm: LanguageModel, sae: SAE) -> None:
    hf: Any = tiny_lm.hf
    long, short = (tiny_lm.tokenize([text]).ids for text in ("the dog ran over", "we play"))
    with torch.no_grad(), steer(tiny_lm, sae, {3: 5.0}, positions="last") as probe:
        hf(long)
        hf.model(long)
        hf.model(short)
        hf.model(short)
    assert probe.n_tokens == 4
    ones = torch.stack([long[0], long[0].flip(0)])  # BOS is last in the second row
    with torch.no_grad(), steer(tiny_lm, sae, {3: 5.0}) as probe:
        hf.model(ones[:1])
        hf.model(ones[1:])
    assert probe.n_tokens == 2 * (long.shape[1] - 1)


def test_the_change_at_the_hook_is_linear_in_the_strength(clip: TextEncoder, clip_sae: SAE) -> None:
    tokens = clip.tokenize(PROMPTS)
    plain = clip.activations(tokens, [HOOK])[HOOK]
    moved = {}
    for strength in (0.0, -0.5, 1.0, 2.0):
        with steer(clip, clip_sae, {3: strength, 9: -strength}):
            moved[strength] = clip.activations(tokens, [HOOK])[HOOK] - plain
    assert not moved[0.0].any()
    assert torch.allclose(moved[2.0], 2 * moved[1.0], atol=1e-5)
    assert torch.allclose(moved[-0.5], -0.5 * moved[1.0], atol=1e-5)


def test_a_conditional_edit_leaves_other_prompts_bit_for_bit(
    clip: TextEncoder, clip_sae: SAE
) -> None:
    tokens = clip.tokenize(PROMPTS)
    x = clip.activations(tokens, [HOOK])[HOOK]
    acts = clip_sae.encode(x.flatten(0, 1)).dense().view(2, -1, 64)
    acts = acts.masked_fill(~tokens.content.unsqueeze(-1), 0.0).amax(1)
    latent = int((acts[0] - acts[1]).argmax())
    threshold = float(acts[:, latent].mean())
    when = Condition(LatentTrigger(clip_sae, [latent]), threshold, scope="text")
    _, before = as_a_pipeline_does(clip, PROMPTS)
    request = Request(Clamp({latent: -9.0}), sae=clip_sae, positions="every", when=when)
    # The padding tokens count, too, where the pipeline does not say that they are padding.
    with intervene(clip, [Request(Add({5: 9.0}), sae=clip_sae, when=when), request]):
        _, after = as_a_pipeline_does(clip, PROMPTS)
    assert not torch.equal(after[0], before[0])
    with ablate(clip, clip_sae, [latent], mode="clamp", value=-9.0, when=when) as probe:
        embedded = clip.embed(PROMPTS)
    fired = probe.summary().fired
    assert fired is not None
    assert (fired.n_texts, fired.n_texts_met) == (2, 1)
    plain = clip.embed(PROMPTS)
    assert torch.equal(embedded[1], plain[1])
    assert not torch.equal(embedded[0], plain[0])


def test_a_language_models_sae_does_not_fit_an_encoder(clip: TextEncoder, sae: SAE) -> None:
    with pytest.raises(ShapeError, match=r"width 64.*width 32"), steer(clip, sae, {1: 1.0}):
        pass
    meta = {"hook_name": HOOK, "model": {"fingerprint": "0" * 16}}
    foreign = build_sae("topk", d_in=32, n_latents=64, k=4, meta=meta)
    with pytest.raises(ConfigError, match="fingerprint"), steer(clip, foreign, {1: 1.0}):
        pass


SEA = [
    "The ship sailed over the ocean.",
    "Waves broke on the harbour wall.",
    "A whale swam beneath the boat.",
    "The captain looked at the tide.",
    "Fishermen mended their nets on the pier.",
    "The lighthouse warned the sailors.",
]
KITCHEN = [
    "She baked bread in the oven.",
    "The soup needs salt and pepper.",
    "He chopped onions on the board.",
    "The recipe asks for two eggs.",
    "They washed the plates after dinner.",
    "A kettle whistled on the stove.",
]
NEW_SEA = ["The sailor watched the waves.", "A boat left the port at dawn."]
NEW_OTHER = ["Add a spoon of sugar to the dough.", "The frying pan was still hot."]


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    try:
        model = st.load_model("minilm")
    except ConfigError as error:
        pytest.skip(f"needs the package of the demo extra: {error}")
    assert isinstance(model, TextEncoder)
    return model


def test_a_direction_of_minilm_turns_new_texts_towards_its_concept(minilm: TextEncoder) -> None:
    direction = text_contrast(minilm, SEA, KITCHEN, hook_name="resid_post.3", at="all")
    assert direction.info["positive_mean"] > direction.info["negative_mean"]
    sea, kitchen = (minilm.embed(texts).mean(0) for texts in (SEA, KITCHEN))

    def towards_the_sea(texts: list[str]) -> float:
        return float((minilm.embed(texts) @ (sea - kitchen)).mean())

    plain = towards_the_sea(NEW_OTHER)
    found = []
    for strength in (-0.6, -0.3, 0.0, 0.3, 0.6):
        request = Request(AddDirection(strength, "residual_norm"), direction=direction)
        with intervene(minilm, [request]):
            found.append(towards_the_sea(NEW_OTHER))
    assert found == sorted(found)
    assert found[2] == plain
    assert found[4] > found[2] + 0.1


def test_projecting_it_out_brings_the_two_topics_of_minilm_together(minilm: TextEncoder) -> None:
    direction = text_contrast(minilm, SEA, KITCHEN, hook_name="resid_post.3", at="all")

    def gap() -> float:
        new = minilm.embed(NEW_SEA).mean(0), minilm.embed(NEW_OTHER).mean(0)
        return float((new[0] - new[1]).norm())

    before = gap()
    with intervene(minilm, [Request(ProjectOut(), direction=direction)]):
        after = gap()
    assert after < before
    assert gap() == before
