"""The logit lens of models whose unembedding is known, and None where there is none."""

import numpy as np
import pytest
import torch
from torch import nn

from saetools.analysis.logit_lens import logit_table
from saetools.models import load_model
from saetools.models.unembedding import unembedding_of, writes_to_residual

RESID = "blocks.1.hook_resid_post"


def test_the_unembedding_before_the_norm_gives_the_models_own_logits(tiny_lm):
    """For any stream: logits = (rows · stream) / length, with the norm's bias apart."""
    found = unembedding_of(tiny_lm)
    tokens = tiny_lm.tokenize(["the cat sat on the mat"])
    last = f"blocks.{tiny_lm.n_layers - 1}.hook_resid_post"
    stream = tiny_lm.activations(tokens, [last])[last][0, 2:].float()
    logits = tiny_lm.logits(tokens)[0, 2:].float()
    guess = stream @ found.rows.T
    for ours, theirs in zip(guess, logits, strict=True):
        assert np.corrcoef(ours.numpy(), theirs.numpy())[0, 1] > 1 - 1e-4


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize("kind", ["layer", "rms", "gemma"])
def test_the_gain_is_measured_whatever_the_norm(width, kind):
    from saetools.models.unembedding import _measure

    gain = torch.linspace(0.5, 2, width)
    if kind == "layer":
        norm = nn.LayerNorm(width)
        nn.init.normal_(norm.bias)
    else:
        norm = nn.RMSNorm(width, eps=1e-6)
    with torch.no_grad():
        norm.weight.copy_(gain)
    if kind == "gemma":  # multiplies by 1 + weight

        class Gemma(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(gain - 1)

            def forward(self, x):
                return x / x.square().mean(-1, keepdim=True).sqrt() * (1 + self.weight)

        norm = Gemma()
    with torch.no_grad():
        found, takes_mean = _measure(norm, width)
    torch.testing.assert_close(found, gain, rtol=1e-4, atol=1e-4)
    assert takes_mean == (kind == "layer")


def test_a_latent_that_writes_a_token_promotes_that_token():
    """Tokens of planted unembedding rows, one of them rare and ten times as long."""
    model = load_model("tiny")
    head, (norm,) = model.hf.get_output_embeddings(), [
        m for n, m in model.hf.base_model.named_children() if "norm" in type(m).__name__.lower()
    ]  # fmt: skip
    vocab, d = head.weight.shape
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        head.weight.copy_(torch.randn(vocab, d, generator=rng) * 0.1)
        head.weight[30] = torch.randn(d, generator=rng) * 10  # long, and of no concern
        norm.weight.copy_(torch.linspace(0.2, 3, d))
        # What raises a token's logit through the norm is its row times the gain, mean apart.
        rows = unembedding_of(model).centred()
        W_dec = torch.stack([rows[40], -rows[41]])
    table = logit_table(model, W_dec, hook_name=RESID)
    pieces = {i: piece for piece, i in model.tokenizer.get_vocab().items()}
    assert table.of(0).promoted[0][0].strip() == pieces[40].strip("Ġ▁ ")
    assert table.of(1).suppressed[0][0].strip() == pieces[41].strip("Ġ▁ ")
    assert table.of(0).promoted[0][1] > 4 > table.of(0).promoted[1][1]
    scores = rows / rows.norm(dim=1, keepdim=True) @ W_dec[0]
    special = set(model.tokenizer.all_special_ids)
    kept = [i for i in range(vocab) if i in pieces and i not in special]
    z = (scores[kept] - scores[kept].mean()) / scores[kept].std()
    found = [z for _, z in table.of(0).promoted]
    np.testing.assert_allclose(found, z.sort(descending=True).values[: len(found)], rtol=1e-4)


def test_encoders_and_hooks_that_are_no_residual_stream_have_no_logits(tiny_lm, tiny_encoder):
    W_dec = torch.randn(3, tiny_lm.d_model)
    assert logit_table(tiny_lm, W_dec, hook_name=RESID) is not None
    assert logit_table(tiny_lm, W_dec, hook_name="blocks.1.hook_mlp_out") is not None
    assert logit_table(tiny_lm, W_dec, hook_name="blocks.1.mlp.hook_post") is None
    assert logit_table(tiny_lm, W_dec, hook_name="blocks.1.ln2.hook_normalized") is None
    assert logit_table(tiny_lm, W_dec[:, 1:], hook_name=RESID) is None
    assert logit_table(tiny_encoder, W_dec, hook_name=RESID) is None
    assert writes_to_residual("blocks.1.hook_resid_mid")
