"""Ablation changes the chosen latents and nothing else."""

import pytest
import torch

from saetools.errors import ConfigError, ShapeError
from saetools.intervene import ablate
from saetools.models.base import LanguageModel, TokenBatch
from saetools.sae import INPUT_NORMS, SAE

HOOK = "blocks.1.hook_resid_post"


def rows(model: LanguageModel, tokens: TokenBatch) -> torch.Tensor:
    return model.activations(tokens, [HOOK])[HOOK][tokens.content]


@pytest.fixture
def common(tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch) -> list[int]:
    """Two latents that fire on some of the tokens, each on fewer than half."""
    fires = sae.encode(rows(tiny_lm, tokens)).dense() != 0
    share = fires.float().mean(0)
    some = [int(i) for i in torch.argsort(-share) if 0 < share[i] < 0.5]
    return some[:2]


def test_tokens_without_the_latents_keep_their_bits(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, common: list[int]
) -> None:
    before = rows(tiny_lm, tokens)
    acts = sae.encode(before).dense()[:, common].detach()
    with ablate(tiny_lm, sae, common):
        after = rows(tiny_lm, tokens)
    fired = (acts != 0).any(1)
    assert fired.any()
    assert not fired.all()
    assert torch.equal(after[~fired], before[~fired])
    expected = before[fired] - acts[fired] @ sae.W_dec[common]
    assert torch.allclose(after[fired], expected, atol=1e-5)


def test_special_tokens_keep_their_bits(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    rest = tokens.mask & ~tokens.content
    before = tiny_lm.activations(tokens, [HOOK])[HOOK][rest]
    with ablate(tiny_lm, sae, range(256), keep_error=False):
        after = tiny_lm.activations(tokens, [HOOK])[HOOK][rest]
    assert torch.equal(after, before)


def test_without_the_error_all_latents_off_leaves_the_decoder_bias(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    with ablate(tiny_lm, sae, range(256), keep_error=False):
        after = rows(tiny_lm, tokens)
    assert torch.allclose(after, sae.b_dec.expand_as(after), atol=1e-6)


def test_without_the_error_an_sae_over_normalised_tokens_gives_its_own_reconstruction(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    normed = INPUT_NORMS.get("layer_norm")()(sae)
    before = rows(tiny_lm, tokens)
    silent = int(torch.argmin((normed.encode(before).dense() != 0).sum(0)))
    with ablate(tiny_lm, normed, [silent], mode="clamp_active", value=1.0, keep_error=False):
        after = rows(tiny_lm, tokens)
    assert torch.allclose(after, normed(before), atol=1e-5)


@pytest.mark.parametrize("keep_error", [True, False])
@pytest.mark.parametrize("mode", ["zero", "mean", "clamp", "clamp_active"])
def test_every_mode_sets_what_it_says(
    tiny_lm: LanguageModel,
    sae: SAE,
    tokens: TokenBatch,
    common: list[int],
    mode: str,
    keep_error: bool,
) -> None:
    before = rows(tiny_lm, tokens)
    dense = sae.encode(before).dense().detach()
    means = torch.linspace(0.1, 2.0, 256)
    edited = dense.clone()
    edited[:, common] = {
        "zero": torch.zeros(2),
        "mean": means[common],
        "clamp": torch.full((2,), -4.0),
        "clamp_active": torch.where(dense[:, common] != 0, -4.0, 0.0),
    }[mode]
    error = before - (dense @ sae.W_dec + sae.b_dec)
    expected = edited @ sae.W_dec + sae.b_dec + (error if keep_error else 0)
    with ablate(tiny_lm, sae, common, mode=mode, means=means, value=-4.0, keep_error=keep_error):
        after = rows(tiny_lm, tokens)
    assert torch.allclose(after, expected, atol=1e-5)


def test_an_ablated_latent_no_longer_fires(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, common: list[int]
) -> None:
    with ablate(tiny_lm, sae, common[:1]):
        after = sae.encode(rows(tiny_lm, tokens)).dense()[:, common[0]]
    assert float(after.abs().max()) < 1e-5


def test_the_probe_reports_what_encoding_by_hand_gives(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, common: list[int]
) -> None:
    before = rows(tiny_lm, tokens)
    acts = sae.encode(before).dense()[:, common[0]].detach()
    with ablate(tiny_lm, sae, common) as probe:
        tiny_lm.logits(tokens)
        tiny_lm.logits(tokens)
    summary = probe.summary()
    row = summary.latents[0]
    assert row.latent == common[0]
    assert row.n_tokens == summary.n_tokens == 2 * len(before)
    assert row.fired_fraction == pytest.approx(float((acts != 0).double().mean()))
    assert row.mean_activation == pytest.approx(float(acts[acts != 0].mean()), rel=1e-5)
    relative = float((acts / before.norm(dim=-1)).mean())
    assert row.mean_relative_change == pytest.approx(relative, rel=1e-4)
    assert str(common[0]) in str(summary)


def test_a_mode_without_its_argument_says_which(tiny_lm: LanguageModel, sae: SAE) -> None:
    for mode, wanted in [("mean", "means="), ("clamp", "value="), ("sideways", "sideways")]:
        with pytest.raises(ConfigError, match=wanted), ablate(tiny_lm, sae, [1], mode=mode):
            pass
    with (
        pytest.raises(ShapeError, match="256"),
        ablate(tiny_lm, sae, [1], mode="mean", means=[1.0, 2.0]),
    ):
        pass
    with pytest.raises(ConfigError, match="no latent"), ablate(tiny_lm, sae, []):
        pass
