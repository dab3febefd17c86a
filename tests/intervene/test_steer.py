"""Steering adds what it says, where it says, on every generated token, and leaves nothing."""

from pathlib import Path

import pytest
import torch

import saetools as st
from saetools.errors import ConfigError, UnknownNameError
from saetools.intervene import steer
from saetools.models.base import LanguageModel, TokenBatch
from saetools.sae import SAE, build_sae

HOOK = "blocks.1.hook_resid_post"


def read(model: LanguageModel, tokens: TokenBatch) -> torch.Tensor:
    return model.activations(tokens, [HOOK])[HOOK]


def test_adds_the_decoder_rows_at_content_tokens_only(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    before = read(tiny_lm, tokens)
    with steer(tiny_lm, sae, {5: 3.0, 200: -1.5}):
        after = read(tiny_lm, tokens)
    added = 3.0 * sae.W_dec[5] - 1.5 * sae.W_dec[200]
    content = tokens.content
    assert torch.allclose(
        after[content] - before[content], added.expand(len(after[content]), -1), atol=1e-5
    )
    rest = tokens.mask & ~content
    assert rest.any()
    assert torch.equal(after[rest], before[rest])


@pytest.mark.parametrize("strengths", [{}, {5: 0.0}, {5: 0.0, 9: 0.0}])
def test_zero_strength_is_bit_identical_to_none(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, strengths: dict[int, float]
) -> None:
    before = tiny_lm.logits(tokens)
    with steer(tiny_lm, sae, strengths):
        assert torch.equal(tiny_lm.logits(tokens), before)


def test_units_scale_the_change(tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch) -> None:
    before = read(tiny_lm, tokens)[tokens.content]
    with steer(tiny_lm, sae, {5: -0.5}, unit="residual_norm") as probe:
        after = read(tiny_lm, tokens)[tokens.content]
    relative = (after - before).norm(dim=-1) / before.norm(dim=-1)
    assert torch.allclose(relative, torch.full_like(relative, 0.5), atol=1e-5)
    assert probe.summary().mean_relative_change == pytest.approx(0.5, abs=1e-5)
    largest = torch.arange(256.0)
    with steer(tiny_lm, sae, {5: 2.0}, unit="max_activation", max_activations=largest):
        after = read(tiny_lm, tokens)[tokens.content]
    change = after - before
    assert torch.allclose(change, (10.0 * sae.W_dec[5]).expand_as(change), atol=1e-5)


def test_every_generated_token_is_steered_with_and_without_cache(
    tiny_lm: LanguageModel, sae: SAE
) -> None:
    prompt = "the dog"
    n_prompt = int(tiny_lm.tokenize([prompt]).content.sum())
    plain = tiny_lm.generate(prompt, 12)
    with steer(tiny_lm, sae, {7: 6.0}) as probe:
        cached = tiny_lm.generate(prompt, 12)
    assert probe.n_tokens == n_prompt + 11  # the last token is never fed back
    with steer(tiny_lm, sae, {7: 6.0}):
        uncached = tiny_lm.generate(prompt, 12, use_cache=False)
    assert cached == uncached
    assert cached != plain
    assert tiny_lm.generate(prompt, 12) == plain


def test_steering_a_real_model_changes_its_story(shared_dir: Path) -> None:
    model = st.load_model(str(shared_dir / "models" / "stories260k"))
    assert isinstance(model, LanguageModel)
    sae = build_sae("topk", d_in=64, n_latents=128, k=8, meta={"hook_name": "resid_post.2"})
    plain = model.generate("Once upon a time", 30)
    with steer(model, sae, {3: 0.8}, unit="residual_norm"):
        cached = model.generate("Once upon a time", 30)
        uncached = model.generate("Once upon a time", 30, use_cache=False)
    assert cached == uncached
    assert cached != plain
    assert model.generate("Once upon a time", 30) == plain


def test_nothing_remains_after_an_exception(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    before = tiny_lm.logits(tokens)
    seen = []

    def fail_inside() -> None:
        with steer(tiny_lm, sae, {5: 9.0}):
            seen.append(tiny_lm.logits(tokens))
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        fail_inside()
    assert not torch.equal(seen[0], before)
    assert torch.equal(tiny_lm.logits(tokens), before)


def test_a_latent_out_of_range_is_named_with_the_valid_range(
    tiny_lm: LanguageModel, sae: SAE
) -> None:
    with (
        pytest.raises(UnknownNameError, match=r"latent 256 .* 0 to 255"),
        steer(tiny_lm, sae, {256: 1.0}),
    ):
        pass


def test_a_unit_that_cannot_be_used_says_what_it_needs(tiny_lm: LanguageModel, sae: SAE) -> None:
    with (
        pytest.raises(ConfigError, match="max_activations"),
        steer(tiny_lm, sae, {1: 1.0}, unit="max_activation"),
    ):
        pass
    with pytest.raises(ConfigError, match="percent"), steer(tiny_lm, sae, {1: 1.0}, unit="percent"):
        pass


def test_the_probe_of_steering_counts_tokens_and_length(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    lengths = read(tiny_lm, tokens)[tokens.content].norm(dim=-1)
    with steer(tiny_lm, sae, {5: 3.0}) as probe:
        tiny_lm.logits(tokens)
    summary = probe.summary()
    (row,) = summary.latents
    assert row.n_tokens == int(tokens.content.sum())
    assert row.mean_relative_change == pytest.approx(float((3.0 / lengths).mean()), rel=1e-5)
    assert row.fired_fraction != row.fired_fraction  # NaN: steering does not encode
    assert "steer at blocks.1.hook_resid_post" in probe._repr_html_()
