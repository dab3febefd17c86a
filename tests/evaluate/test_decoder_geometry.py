"""Geometry of the dictionary: orthogonal rows are far apart, and copies are found."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from saetools.evaluate import evaluate
from saetools.evaluate.metrics import decoder_geometry
from saetools.evaluate.metrics.decoder_geometry import max_cosines
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore

SaeMaker = Callable[..., SAE]


def test_plus_and_minus_a_basis_has_no_close_pair(
    tiny_store: ActivationStore, identity_sae: SaeMaker
) -> None:
    found = evaluate(identity_sae(16), tiny_store, metrics=["decoder_geometry"]).values
    assert found["decoder_max_cosine"] == pytest.approx(0.0, abs=1e-6)
    assert found["duplicate_fraction"] == 0.0
    assert found["encoder_decoder_cosine"] == pytest.approx(1.0, abs=1e-6)


def test_copies_are_counted_and_turned_encoders_seen(
    tiny_store: ActivationStore, identity_sae: SaeMaker
) -> None:
    sae = identity_sae(16)
    with torch.no_grad():
        sae.W_dec[3] = sae.W_dec[0] * 2.0  # a copy of another length
        sae.W_enc_rows.neg_()
    report = evaluate(sae, tiny_store, metrics=["decoder_geometry"])
    assert report.values["duplicate_fraction"] == pytest.approx(2 / 32)
    assert report.values["decoder_max_cosine"] == pytest.approx(2 / 32, abs=1e-6)
    assert report.values["encoder_decoder_cosine"] == pytest.approx(-31 / 32, abs=1e-6)
    curve = report.curve("decoder_max_cosine")
    assert curve is not None
    assert sum(curve.y) == 32
    assert curve.y[-1] == 2


def test_blocks_give_what_scikit_learn_gives_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(70, 9, generator=torch.Generator().manual_seed(0))
    table = cosine_similarity(rows.numpy())
    np.fill_diagonal(table, -2.0)
    for size in (8_000_000, 70 * 7, 1):
        monkeypatch.setattr(decoder_geometry, "_BLOCK_COSINES", size)
        assert np.allclose(max_cosines(rows).numpy(), table.max(1), atol=1e-5)


def test_one_latent_has_no_other() -> None:
    sae = build_sae("topk", d_in=16, n_latents=1, k=1)
    assert bool(max_cosines(sae.W_dec).isnan().all())
