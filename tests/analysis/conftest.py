"""An index whose every number can be computed by hand: identity SAE, sparse random activations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from saetools.analysis import index_latents
from saetools.sae import build_sae

N_ROWS, N_LATENTS, DOC_LEN, WINDOW = 1440, 12, 16, 5


class Pieces:
    """A tokenizer as far as an index needs one: every third piece goes on with the word before."""

    vocab = tuple(("##" if i % 3 == 2 else "") + f"w{i}" for i in range(97))

    def get_vocab(self):
        return {piece: i for i, piece in enumerate(self.vocab)}

    def convert_ids_to_tokens(self, ids):
        return [self.vocab[i] for i in ids]


def identity_sae(n: int, *, k: int):
    """An SAE whose latents are the dimensions of its input, as far as they are positive."""
    sae = build_sae("topk", d_in=n, n_latents=n, k=k)
    with torch.no_grad():
        sae.W_enc_rows.copy_(torch.eye(n))
        sae.W_dec.copy_(torch.eye(n))
    return sae


@pytest.fixture
def known(make_store):
    """A store of 90 documents, its activations `x` (1440, 12), and the index of an identity SAE.

    Values are few, so that many are tied; latent 3 is dead; latent 0 tells label1.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(1, 6, size=(N_ROWS, N_LATENTS)) * (rng.random((N_ROWS, N_LATENTS)) < 0.15) / 4
    x[:, 3] = 0
    doc = np.arange(N_ROWS) // DOC_LEN
    x[:, 0] *= doc % 3 == 1
    store = make_store(torch.tensor(x, dtype=torch.float32), doc_len=DOC_LEN, held_out_fraction=0.5)
    sae, model = identity_sae(N_LATENTS, k=N_LATENTS), SimpleNamespace(tokenizer=Pieces())

    def index(**settings):
        return index_latents(sae, store, model=model, **{"window": WINDOW, **settings})

    return SimpleNamespace(
        x=x.astype(np.float32), doc=doc, store=store, sae=sae, model=model, index=index
    )
