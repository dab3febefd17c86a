"""Separability: scipy's distance, the bias that is known, and nothing where there is nothing."""

import math

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import jensenshannon

from saetools.evaluate.concepts.histograms import (
    bin_codes,
    distances,
    histograms,
    jensen_shannon,
    null_distance,
)
from saetools.evaluate.concepts.separation import separation

BINS = 64


def _groups(n: int, n_groups: int = 2) -> np.ndarray:
    return np.repeat(np.arange(n_groups), n)


def test_distances_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(BINS, 0.3), size=(3, 5))
    found = distances(shares)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [
        [jensenshannon(shares[a, u], shares[b, u], base=2) for u in range(5)] for a, b in pairs
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_equal_groups_have_distance_0_and_disjoint_ones_1() -> None:
    values = np.random.default_rng(0).random((200, 1))
    twice = np.concatenate([values, values])
    apart = np.concatenate([values, values + 1])
    for x, expected in ((twice, 0.0), (apart, 1.0)):
        codes = bin_codes(x, n_bins=BINS + 1)
        shares = histograms(codes, _groups(200), n_groups=2, n_bins=BINS + 1)
        assert distances(shares)[0, 0] == pytest.approx(expected, abs=1e-9)


def test_adaptive_bins_do_not_see_a_rescaled_unit() -> None:
    rng = np.random.default_rng(1)
    values = np.maximum(rng.normal(size=(300, 4)), 0)  # half are zero, as latents are
    codes = bin_codes(values, n_bins=BINS)
    for scaled in (0.01 * values, 30 * values, np.where(values > 0, 5 * values + 3, 0)):
        np.testing.assert_array_equal(bin_codes(scaled, n_bins=BINS), codes)
    assert (codes[values == 0] == 0).all()
    assert codes[values > 0].min() == 1
    assert codes.max() == BINS - 1


@pytest.mark.parametrize(
    ("n", "formula", "simulated"), [(1000, 0.0227, 0.0232), (200, 0.114, 0.127)]
)
def test_equal_distributions_show_the_known_bias(n: int, formula: float, simulated: float) -> None:
    """Card of the method: JSD of n samples a group in B bins is biased by (B − 1)/(4 n ln 2)."""
    assert (BINS - 1) / (4 * n * math.log(2)) == pytest.approx(formula, rel=0.01)
    codes = np.random.default_rng(0).integers(0, BINS, size=(2 * n, 400))
    shares = histograms(codes, _groups(n), n_groups=2, n_bins=BINS)
    bias = jensen_shannon(shares[0], shares[1]).mean()
    assert bias == pytest.approx(simulated, rel=0.05)
    null = null_distance(codes, _groups(n), n_groups=2, n_bins=BINS, seed=0)
    assert null.mean() == pytest.approx(math.sqrt(simulated), rel=0.05)


def test_random_labels_separate_nothing() -> None:
    rng = np.random.default_rng(2)
    units = np.maximum(rng.normal(size=(480, 120)) - 0.5, 0).astype(np.float32)
    found = separation(units, _groups(120, 4), seed=0)
    assert found.mean == pytest.approx(0.0, abs=0.005)
    assert found.null > 0.1  # what would have been taken for separation
    assert found.excess.mean() == pytest.approx(0.0, abs=0.06)


def test_a_planted_unit_is_found_and_separates_all_that_can_be() -> None:
    rng = np.random.default_rng(3)
    group = _groups(200, 3)
    units = np.maximum(rng.normal(size=(600, 60)) - 0.5, 0).astype(np.float32)
    for g, unit in enumerate((17, 4, 33)):
        units[:, unit] = np.where(group == g, 1 + rng.random(600), 0)
    found = separation(units, group, seed=0)
    assert found.best.tolist() == [17, 4, 33]
    assert (found.excess > 0.6).all()
    thin = separation(sparse.csr_matrix(units), group, seed=0)
    assert thin.best.tolist() == [17, 4, 33]
    np.testing.assert_allclose(thin.excess, found.excess)
    assert thin.mean == pytest.approx(found.mean)


def test_the_best_of_many_is_no_better_than_the_best_of_few_on_noise() -> None:
    """Choice and measurement are on different halves, so a larger dictionary has no head start."""
    rng = np.random.default_rng(4)
    found = [
        separation(rng.random((400, width)).astype(np.float32), _groups(200), seed=0).excess.mean()
        for width in (20, 2000)
    ]
    assert found[0] == pytest.approx(0.0, abs=0.08)
    assert found[1] == pytest.approx(0.0, abs=0.08)


def test_with_fewer_units_to_choose_from_the_planted_one_is_often_missed() -> None:
    group, rng = _groups(200), np.random.default_rng(5)
    units = rng.random((400, 100)).astype(np.float32)
    units[:, 0] = group + rng.random(400)
    found = separation(units, group, seed=0, n_choices=10)
    assert (found.excess > 0.5).all()
    assert (found.equal < 0.3).all()
    assert (separation(units, group, seed=0, n_choices=100).equal == found.excess).all()


def test_units_that_never_fire_do_not_count() -> None:
    group, rng = _groups(100), np.random.default_rng(6)
    units = np.maximum(rng.normal(size=(200, 10)), 0).astype(np.float32)
    silent = np.concatenate([np.zeros((200, 50), np.float32), units], axis=1)
    live, padded = (separation(sparse.csr_matrix(u), group, seed=0) for u in (units, silent))
    assert padded.mean == pytest.approx(live.mean)
    assert padded.best.tolist() == (live.best + 50).tolist()
    nothing = separation(np.zeros((200, 5), np.float32), group, seed=0)
    assert (nothing.mean, nothing.excess.tolist()) == (0.0, [0.0, 0.0])
