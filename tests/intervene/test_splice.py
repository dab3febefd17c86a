"""Splicing puts the reconstruction in the activation's place."""

import pytest
import torch

from saetools.intervene import splice
from saetools.models.base import LanguageModel, TextEncoder, TokenBatch
from saetools.sae import SAE, build_sae

HOOK = "blocks.1.hook_resid_post"


def test_the_model_sees_the_reconstruction_at_content_tokens(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    before = tiny_lm.activations(tokens, [HOOK])[HOOK]
    with splice(tiny_lm, sae) as probe:
        after = tiny_lm.activations(tokens, [HOOK])[HOOK]
    x = before[tokens.content]
    x_hat = sae(x).detach()
    assert torch.allclose(after[tokens.content], x_hat, atol=1e-6)
    rest = tokens.mask & ~tokens.content
    assert torch.equal(after[rest], before[rest])
    expected = ((x_hat - x).norm(dim=-1) / x.norm(dim=-1)).mean()
    assert probe.summary().mean_relative_change == pytest.approx(float(expected), rel=1e-5)


def test_a_perfect_sae_changes_no_logit(tiny_lm: LanguageModel, tokens: TokenBatch) -> None:
    d = tiny_lm.d_model
    perfect = build_sae("topk", d_in=d, n_latents=2 * d, k=d, meta={"hook_name": HOOK})
    both_ways = torch.cat([torch.eye(d), -torch.eye(d)])
    with torch.no_grad():
        perfect.W_dec.copy_(both_ways)
        perfect.W_enc_rows.copy_(both_ways)
    before = tiny_lm.logits(tokens)[tokens.mask]
    with splice(tiny_lm, perfect) as probe:
        after = tiny_lm.logits(tokens)[tokens.mask]
    assert torch.allclose(after, before, atol=1e-5)
    assert probe.summary().mean_relative_change < 1e-6


def test_splicing_a_text_encoder_changes_its_embedding_for_the_block_only(
    tiny_encoder: TextEncoder,
) -> None:
    sae = build_sae("topk", d_in=64, n_latents=128, k=4, meta={"hook_name": HOOK})
    texts = ["the dog ran", "a house by the water"]
    before = tiny_encoder.embed(texts)
    with splice(tiny_encoder, sae):
        assert not torch.allclose(tiny_encoder.embed(texts), before, atol=1e-3)
    assert torch.equal(tiny_encoder.embed(texts), before)
