"""Recovery has known ends: the planted dictionary itself has all of it, a random one little."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import precision_recall_fscore_support

from saetools.sae import SAE, build_sae
from saetools.testbed.planting import SyntheticConfig
from saetools.testbed.recovery import match_directions, recovery, recovery_report
from saetools.testbed.synthetic import SyntheticSource

CONFIG = SyntheticConfig(d_in=32, n_concepts=24, mean_active=4, frequency_exponent=1.0)


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(CONFIG, n_tokens=30_000, held_out_fraction=0.5)


def oracle(
    source: SyntheticSource, *, n_latents: int = 24, order: torch.Tensor | None = None
) -> SAE:
    """A ReLU SAE whose latents are the directions, with a bias that noise does not pass."""
    sae = build_sae("standard", d_in=32, n_latents=n_latents, target_l0=4)
    rows = source.directions if order is None else source.directions[order]
    with torch.no_grad():
        sae.W_dec[: len(rows)] = rows[:n_latents]
        sae.W_enc_rows[: len(rows)] = rows[:n_latents]
        sae.b_enc.fill_(-0.2)
    return sae


def test_the_planted_dictionary_is_recovered_whole_in_any_order(source: SyntheticSource) -> None:
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    report = recovery_report(oracle(source, order=order), source)
    assert report.whole.mcc == pytest.approx(1.0, abs=1e-5)
    assert report.whole.recovered_fraction == 1.0
    assert report.whole.precision > 0.999
    assert report.whole.recall > 0.999
    assert [band.n_concepts for band in report.bands] == [6, 6, 6, 6]
    edges = [(band.lowest, band.highest) for band in report.bands]
    assert edges == sorted(edges)


def test_with_too_few_latents_the_rest_is_missing(source: SyntheticSource) -> None:
    report = recovery_report(oracle(source, n_latents=18, order=torch.arange(18)), source)
    assert report.whole.recovered_fraction == pytest.approx(18 / 24)
    assert report.whole.mcc == pytest.approx(18 / 24, abs=1e-5)
    assert report.whole.recall == pytest.approx(18 / 24, abs=1e-3)
    assert report.bands[0].f1 == 0.0  # the rarest six have the highest numbers
    assert report.bands[-1].f1 > 0.99


def test_firing_is_scored_as_scikit_learn_scores_it(source: SyntheticSource) -> None:
    sae = oracle(source)
    with torch.no_grad():
        sae.b_enc.copy_(torch.linspace(-1.2, 0.05, 24))  # from missing rows to firing on noise
    report = recovery_report(sae, source, n_tokens=4096)
    rows = list(source.rows(split="held_out", n_rows=4096))
    on = torch.cat([r.on for r in rows]).numpy()
    fires = torch.cat([sae.encode(r.x).dense() > 0 for r in rows]).numpy()
    precision, recall, f1, _ = precision_recall_fscore_support(on, fires, zero_division=0)
    assert report.n_tokens == len(on)
    assert report.whole.precision == pytest.approx(precision.mean())
    assert report.whole.recall == pytest.approx(recall.mean())
    assert report.concept_f1 == pytest.approx(tuple(f1))
    assert 0.5 < report.whole.f1 < 0.99


def test_a_random_dictionary_recovers_little(source: SyntheticSource) -> None:
    report = recovery_report(build_sae("topk", d_in=32, n_latents=24, k=4), source)
    assert report.whole.mcc < 0.5
    assert report.whole.recovered_fraction == 0.0
    assert report.whole.f1 < 0.4


def test_one_latent_cannot_stand_for_two_directions() -> None:
    directions = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1.0, -0.1]]), dim=1)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = match_directions(rows, directions)
    assert sorted(found.latents.tolist()) == [0, 1]
    assert float(found.cosines.sum()) == pytest.approx((1 + 0.1) / math.sqrt(1.01), abs=1e-6)
    table = (rows @ directions.T).abs().numpy()
    own, matched = linear_sum_assignment(table, maximize=True)
    assert float(recovery(rows, directions).sum()) == pytest.approx(
        float(table[own, matched].sum())
    )


def test_a_concept_that_was_never_on_is_left_out() -> None:
    config = SyntheticConfig(d_in=32, n_concepts=24, mean_active=1.0, frequency_exponent=3.0)
    source = SyntheticSource(config, n_tokens=2048, held_out_fraction=0.5)
    report = recovery_report(oracle(source), source)
    never = sum(math.isnan(value) for value in report.concept_f1)
    assert never > 0
    assert report.whole.n_concepts == 24 - never
    assert sum(band.n_concepts for band in report.bands) == 24 - never
