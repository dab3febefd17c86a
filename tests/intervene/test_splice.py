"""Splicing puts the reconstruction in the activation's place."""

import pytest
import torch

from saetools.errors import ConfigError, ShapeError
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


READS, WRITES = "blocks.1.hook_attn_out", "blocks.2.hook_mlp_out"


def transcoder(model: LanguageModel, *, reads: str = READS, d_in: int | None = None) -> SAE:
    meta = {"hook_name": reads, "model": {"fingerprint": model.fingerprint}}
    sae = build_sae(
        "transcoder", d_in=d_in or model.d_model, d_out=model.d_model, n_latents=256, k=8,
        target_hook_name="mlp_out.2", meta=meta, seed=3,
    )  # fmt: skip
    with torch.no_grad():
        sae.b_dec.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return sae


def test_a_transcoder_writes_what_it_makes_of_what_it_reads_in_the_same_pass(
    tiny_lm: LanguageModel, tokens: TokenBatch
) -> None:
    sae = transcoder(tiny_lm)
    before = tiny_lm.activations(tokens, [READS, WRITES])
    with splice(tiny_lm, sae) as probe:
        after = tiny_lm.activations(tokens, [READS, WRITES])
    content, rest = tokens.content, tokens.mask & ~tokens.content
    y_hat = sae(before[READS][content]).detach()
    assert torch.equal(after[READS][tokens.mask], before[READS][tokens.mask])
    assert torch.allclose(after[WRITES][content], y_hat, atol=1e-6)
    assert torch.equal(after[WRITES][rest], before[WRITES][rest])
    assert probe.hook_name == WRITES
    assert probe.summary().n_tokens == int(content.sum())
    with tiny_lm.editing({READS: lambda x, _content: 0 * x}), splice(tiny_lm, sae):
        of_zeros = tiny_lm.activations(tokens, [WRITES])[WRITES][content]
    zeros = torch.zeros_like(y_hat)
    assert torch.allclose(of_zeros, sae(zeros).detach(), atol=1e-6), "an outer edit is seen"
    assert torch.equal(tiny_lm.activations(tokens, [WRITES])[WRITES], before[WRITES])


def test_a_transcoder_is_spliced_token_by_token_into_generation(tiny_lm: LanguageModel) -> None:
    with splice(tiny_lm, transcoder(tiny_lm)):
        cached, whole = (
            tiny_lm.generate("the dog ran", 8, use_cache=use_cache) for use_cache in (True, False)
        )
    assert cached == whole


def test_a_transcoder_that_fits_neither_order_nor_width_is_refused(
    tiny_lm: LanguageModel, tokens: TokenBatch
) -> None:
    late = transcoder(tiny_lm, reads="blocks.3.hook_resid_pre")
    with (
        pytest.raises(ConfigError, match=r"computes after blocks\.2\.hook_mlp_out"),
        splice(tiny_lm, late),
    ):
        tiny_lm.logits(tokens)
    narrow = transcoder(tiny_lm, d_in=32)
    with pytest.raises(ShapeError, match="reads activations of width 32"), splice(tiny_lm, narrow):
        pass
