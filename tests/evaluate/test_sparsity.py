"""Counts of firing latents, checked by hand on an SAE whose latents are coordinates."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from saetools.evaluate import evaluate
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore


@pytest.fixture
def counted(
    make_store: Callable[..., ActivationStore], identity_sae: Callable[..., SAE]
) -> tuple[SAE, ActivationStore]:
    """1600 tokens: coordinate 0 on all, 1 on every 4th, 2 on every 16th, the rest on none."""
    x = torch.zeros(1600, 8)
    x[:, 0] = 3.0
    x[::4, 1] = 2.0
    x[::16, 2] = -1.0
    return identity_sae(8), make_store(x)


def test_l0_dead_and_dense_are_counted(counted: tuple[SAE, ActivationStore]) -> None:
    found = evaluate(*counted, metrics=["sparsity"], split="all").values
    assert found["l0"] == pytest.approx(1 + 1 / 4 + 1 / 16)
    assert (found["l0_p10"], found["l0_p50"], found["l0_p90"]) == (1, 1, 2)
    assert found["dead_fraction"] == pytest.approx(13 / 16)
    assert found["dense_fraction"] == pytest.approx(2 / 16)
    assert found["n_tokens"] == 1600


def test_a_latent_that_one_document_alone_fires_makes_the_dead_fraction_uncertain(
    make_store: Callable[..., ActivationStore],
    identity_sae: Callable[..., SAE],
) -> None:
    x = torch.zeros(320, 8)  # 20 documents of 16 tokens
    x[:, 0] = 3.0
    steady = evaluate(identity_sae(8), make_store(x), metrics=["sparsity"], split="all")
    assert steady.stderr["dead_fraction"] == steady.stderr["l0_p50"] == 0.0
    x[5, 1] = 2.0
    report = evaluate(identity_sae(8), make_store(x), metrics=["sparsity"], split="all")
    # Without its document one of 16 latents more is dead: 20 values, one of them 1/16 higher.
    expected = np.sqrt(19 / 20 * (1 - 1 / 20)) / 16
    assert report.stderr["dead_fraction"] == pytest.approx(expected)


def test_the_histogram_holds_every_live_latent_at_its_firing_rate(
    counted: tuple[SAE, ActivationStore],
) -> None:
    report = evaluate(*counted, metrics=["sparsity"], split="all")
    curve = report.curve("log10_firing_rate")
    assert curve is not None
    assert len(curve.x) == len(curve.y) + 1
    assert sum(curve.y) == 3
    filled = [i for i, height in enumerate(curve.y) if height]
    for i, rate in zip(filled, (1 / 16, 1 / 4, 1.0), strict=True):
        assert curve.x[i] - 1e-9 <= np.log10(rate) <= curve.x[i + 1] + 1e-9


def test_the_split_decides_which_tokens_count(counted: tuple[SAE, ActivationStore]) -> None:
    sae, store = counted
    parts = {
        split: evaluate(sae, store, metrics=["sparsity"], split=split).values["n_tokens"]
        for split in ("train", "held_out", "all")
    }
    assert parts["held_out"] == store.held_out.sum() * 16 == 320
    assert parts["train"] + parts["held_out"] == parts["all"]


def test_each_narrower_width_has_its_own_counts(make_store: Callable[..., ActivationStore]) -> None:
    sae = build_sae("matryoshka", d_in=8, n_latents=16, k=4, widths=(2, 16))
    with torch.no_grad():  # latents 0 to 7 are the positive parts of the coordinates
        sae.W_enc_rows.copy_(torch.cat([torch.eye(8), -torch.eye(8)]))
        sae.threshold.fill_(0.5)
    x = torch.zeros(1600, 8)
    x[:, 0] = 3.0
    x[::4, 2] = 2.0
    report = evaluate(sae, make_store(x), metrics=["sparsity"], split="all")
    assert report.values["l0"] == pytest.approx(1.25)
    assert report.values["l0_at_2"] == pytest.approx(1.0)
    assert report.values["l0_p90_at_2"] == 1
    assert report.values["dead_fraction_at_2"] == report.values["dense_fraction_at_2"] == 0.5
    assert report.values["dead_fraction"] == pytest.approx(14 / 16)
    narrow = report.curve("log10_firing_rate_at_2")
    assert narrow is not None
    assert sum(narrow.y) == 1
