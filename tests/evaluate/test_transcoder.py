"""A transcoder is measured against what it writes, and spliced there in the same forward pass."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import saetools as st
from saetools.errors import ConfigError
from saetools.evaluate import EvaluationReport, evaluate
from saetools.models.base import LanguageModel, TextEncoder
from saetools.models.load import from_hf
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore

D = 32
READS, WRITES = "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"
TEXTS = [
    f"the {one} saw the {other} in the {place}"
    for one in ("dog", "girl", "man", "boy")
    for other in ("tree", "sun", "fish")
    for place in ("water", "garden", "house", "city")
]
NOT_OF_TRANSCODERS = ("absorption", "ravel", "scr", "tpp")


@pytest.fixture(scope="module")
def model(tiny_lm: LanguageModel) -> LanguageModel:
    """A GPT-2 with random weights whose MLPs are linear: u · W1 · W2 + b."""
    tokenizer: PreTrainedTokenizerFast = tiny_lm.tokenizer
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=D, n_layer=2, n_head=2, n_positions=32,
        activation_function="linear", initializer_range=0.2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        architectures=["GPT2LMHeadModel"],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf = GPT2LMHeadModel(config)
        hf.transformer.h[1].mlp.c_proj.bias.data.normal_()
    found = from_hf(hf.eval(), tokenizer, name="linear")
    assert isinstance(found, LanguageModel)
    return found


@pytest.fixture(scope="module")
def store(
    model: LanguageModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ActivationStore]:
    path = tmp_path_factory.mktemp("store") / "acts.h5"
    with st.harvest(
        model, TEXTS, hook_name=[READS, WRITES, "resid_pre.1"], out=path, dtype="float32",
        held_out_fraction=0.5,
    ) as store:  # fmt: skip
        yield store


def transcoder(*, reads: str = READS, writes: str = "mlp_out.1", **fields: object) -> SAE:
    settings = {"n_latents": 2 * D, "k": D, "d_in": D, **fields}
    sae = build_sae("transcoder", target_hook_name=writes, meta={"hook_name": reads}, **settings)
    with torch.no_grad():
        for tensor in (sae.W_enc_rows, sae.W_dec, sae.b_dec, sae.b_enc):
            tensor.zero_()
    return sae


def linear_mlp(model: LanguageModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix (D, D) and bias of the MLP of block 1."""
    mlp = model.hf.transformer.h[1].mlp
    matrix = mlp.c_fc.weight.detach() @ mlp.c_proj.weight.detach()
    return matrix, mlp.c_fc.bias.detach() @ mlp.c_proj.weight.detach() + mlp.c_proj.bias.detach()


def exact_latents(model: LanguageModel) -> SAE:
    """Latents are the positive and negative part of each coordinate of the MLP's input."""
    matrix, bias = linear_mlp(model)
    sae = transcoder()
    with torch.no_grad():
        sae.W_enc_rows.copy_(torch.cat([torch.eye(D), -torch.eye(D)]))
        sae.W_dec.copy_(torch.cat([matrix, -matrix]))
        sae.b_dec.copy_(bias)
    return sae


def exact_skip(model: LanguageModel) -> SAE:
    """No latent says anything; the linear map beside them is the MLP."""
    matrix, bias = linear_mlp(model)
    sae = transcoder(skip=True)
    with torch.no_grad():
        sae.get_parameter("W_skip").copy_(matrix.T)
        sae.b_dec.copy_(bias)
    return sae


def measured(
    sae: SAE, store: ActivationStore, model: LanguageModel | None, *metrics: str
) -> EvaluationReport:
    return evaluate(
        sae, store, model=model, corpus=TEXTS if model is not None else None,
        metrics=metrics or None,
    )  # fmt: skip


@pytest.mark.parametrize("exact", [exact_latents, exact_skip])
def test_an_exact_transcoder_leaves_no_variance_and_recovers_all_of_the_loss(
    exact, model: LanguageModel, store: ActivationStore
) -> None:
    report = measured(exact(model), store, model, "reconstruction", "loss_recovered", "sparsity")
    found = report.values
    assert found["fvu"] == pytest.approx(0.0, abs=1e-9)
    assert found["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert found["norm_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert found["loss_recovered_zero"] == pytest.approx(1.0, abs=1e-4)
    assert found["loss_recovered_mean"] == pytest.approx(1.0, abs=1e-4)
    assert found["kl"] == pytest.approx(0.0, abs=1e-6)
    assert found["kl_zero"] > 0.1
    assert found["l0"] == (D if exact is exact_latents else 0)
    assert report.about["hook_name"] == READS
    assert report.about["target_hook_name"] == WRITES
    assert f"{READS} to {WRITES}" in report._repr_html_()


def test_a_transcoder_of_zeros_is_zero_ablation_of_what_it_writes(
    model: LanguageModel, store: ActivationStore
) -> None:
    found = measured(transcoder(), store, model, "reconstruction", "loss_recovered").values
    assert found["ce_spliced"] == pytest.approx(found["ce_zero"], rel=1e-6)
    assert found["loss_recovered_zero"] == pytest.approx(0.0, abs=1e-5)
    assert found["kl"] == pytest.approx(found["kl_zero"], rel=1e-5)
    assert found["nmse_uncentered"] == 1.0
    losses = []
    for doc in np.flatnonzero(store.held_out):
        tokens = model.tokenize([TEXTS[doc]])
        with model.editing({WRITES: lambda x, content: x * ~content.unsqueeze(-1)}):
            loss, real = model.token_losses(tokens)
        losses += loss[real].tolist()
    assert found["ce_spliced"] == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert abs(found["ce_zero"] - found["ce_clean"]) > 0.01


def test_a_transcoder_of_the_mean_is_mean_ablation_of_what_it_writes(
    model: LanguageModel, store: ActivationStore
) -> None:
    sae = transcoder()
    with torch.no_grad():
        sae.b_dec.copy_(torch.as_tensor(store.moments(WRITES).mean))
    found = measured(sae, store, model, "reconstruction", "loss_recovered").values
    assert found["ce_spliced"] == pytest.approx(found["ce_mean"], rel=1e-6)
    assert found["loss_recovered_mean"] == pytest.approx(0.0, abs=1e-4)
    assert found["fvu_residual_variance"] == pytest.approx(1.0, abs=1e-5)
    assert found["fvu_by_token"] == pytest.approx(1.0, abs=1e-5)


def test_fvu_is_that_of_the_target_on_held_out_rows_of_two_widths(make_store) -> None:
    g = torch.Generator().manual_seed(0)
    u, y = torch.randn(9600, 16, generator=g), 3 + torch.randn(9600, 24, generator=g)
    other = "blocks.1.hook_mlp_out"
    store = make_store(u, also={other: y})
    sae = build_sae(
        "transcoder", d_in=16, d_out=24, n_latents=64, k=4, target_hook_name=other,
        meta={"hook_name": "blocks.0.hook_resid_post"}, seed=1,
    )  # fmt: skip
    found = measured(sae, store, None, "reconstruction", "sparsity").values
    rows = np.repeat(store.held_out, 16)
    with torch.no_grad():
        y_hat = sae(u[rows]).double().numpy()
    target = y[rows].double().numpy()
    error = np.square(target - y_hat).sum()
    assert found["fvu"] == pytest.approx(error / np.square(target - target.mean(0)).sum(), rel=1e-6)
    assert found["nmse_uncentered"] == pytest.approx(error / np.square(target).sum(), rel=1e-6)
    lengths = np.linalg.norm(target, axis=1) * np.linalg.norm(y_hat, axis=1)
    assert found["cosine"] == pytest.approx(((target * y_hat).sum(1) / lengths).mean(), rel=1e-5)
    assert found["l0"] == 4
    assert 0 <= found["dead_fraction"] < 1


def test_a_text_encoder_keeps_its_embedding_under_an_exact_transcoder_and_loses_it_under_the_mean(
    tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    # One block's output is the next one's input, so the exact transcoder is the identity.
    reads, writes = "blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"
    d = tiny_encoder.d_model
    exact, mean = (
        transcoder(reads=reads, writes=writes, d_in=d, n_latents=2 * d, k=d) for _ in range(2)
    )
    both_ways = torch.cat([torch.eye(d), -torch.eye(d)])
    with st.harvest(
        tiny_encoder, TEXTS, hook_name=[reads, writes], out=tmp_path / "a.h5", dtype="float32",
        held_out_fraction=0.5,
    ) as store:  # fmt: skip
        with torch.no_grad():
            exact.W_enc_rows.copy_(both_ways)
            exact.W_dec.copy_(both_ways)
            mean.b_dec.copy_(torch.as_tensor(store.moments(writes).mean))
        kept, lost = (
            evaluate(
                sae, store, model=tiny_encoder, corpus=TEXTS,
                metrics=["embedding_cosine", "retrieval"],
            ).values
            for sae in (exact, mean)
        )  # fmt: skip
    assert kept["embedding_cosine"] == pytest.approx(1.0, abs=1e-6)
    assert kept["embedding_recovered"] == pytest.approx(1.0, abs=1e-5)
    assert kept["retrieval_mrr_spliced"] == pytest.approx(kept["retrieval_mrr_clean"])
    assert lost["embedding_cosine"] == pytest.approx(lost["embedding_cosine_mean"], abs=1e-6)
    assert lost["embedding_recovered"] == pytest.approx(0.0, abs=1e-5)
    assert lost["retrieval_mrr_spliced"] == pytest.approx(lost["retrieval_mrr_mean"])


def test_metrics_that_mean_nothing_of_a_transcoder_are_left_out_with_the_reason(
    model: LanguageModel, store: ActivationStore
) -> None:
    sae = exact_latents(model)
    everything = measured(sae, store, model)
    assert {"fvu", "l0", "loss_recovered_zero", "decoder_max_cosine"} <= set(everything.values)
    for name in NOT_OF_TRANSCODERS:
        assert f"reads {READS} and writes {WRITES}" in everything.skipped[name], name
    assert "encoder_decoder_cosine" not in everything.values
    assert WRITES in everything.skipped["encoder_decoder_cosine"]
    asked = measured(sae, store, model, "sparsity", *NOT_OF_TRANSCODERS)
    assert asked.about["metrics"] == ["sparsity"]
    assert set(asked.skipped) == set(NOT_OF_TRANSCODERS)


def test_a_transcoder_that_reads_what_comes_later_cannot_be_spliced(
    model: LanguageModel, store: ActivationStore
) -> None:
    late = transcoder(reads=READS, writes="resid_pre.1")
    later = f"reads {READS}, which the model computes after blocks.1.hook_resid_pre"
    with pytest.raises(ConfigError, match=later):
        measured(late, store, model, "loss_recovered")
    report = measured(late, store, model)
    assert later in report.skipped["loss_recovered"]
    assert math.isfinite(report.values["fvu"])
    with pytest.raises(ConfigError, match=later), st.splice(model, late):
        model.loss(TEXTS[:1])


def test_a_store_without_the_target_is_named(make_store) -> None:
    store = make_store(torch.randn(640, D, generator=torch.Generator().manual_seed(0)))
    sae = transcoder(reads="blocks.0.hook_resid_post")
    with pytest.raises(ConfigError, match=r"writes mlp_out\.1, but .* harvest both hooks"):
        measured(sae, store, None, "reconstruction")
    nowhere = build_sae(
        "transcoder", d_in=D, d_out=8, n_latents=64, k=4,
        meta={"hook_name": "blocks.0.hook_resid_post"},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="width 8 and does not say of which hook"):
        measured(nowhere, store, None, "reconstruction")
