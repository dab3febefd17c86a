"""An untrained SAE for the tiny language model, and tokens to run."""

import pytest
import torch

from saetools.models.base import LanguageModel, TokenBatch
from saetools.sae import SAE, build_sae

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def sae(tiny_lm: LanguageModel) -> SAE:
    meta = {"hook_name": HOOK, "model": {"fingerprint": tiny_lm.fingerprint}}
    sae = build_sae("topk", d_in=tiny_lm.d_model, n_latents=256, k=8, meta=meta)
    with torch.no_grad():
        sae.b_dec.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return sae


@pytest.fixture
def tokens(tiny_lm: LanguageModel) -> TokenBatch:
    return tiny_lm.tokenize(["the little dog ran over the big tree", "a girl said no", "we play"])
