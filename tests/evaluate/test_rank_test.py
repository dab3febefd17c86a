"""p values of latents are those of shuffled classes, however silent and however unequal."""

import itertools
import math

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import false_discovery_control, rankdata

from saetools.evaluate.concept_search.rank_test import (
    adjusted,
    rank_p_values,
    smallest_p_value,
)


def classes(n, m, rng):
    positive = np.zeros(n, dtype=bool)
    positive[rng.choice(n, m, replace=False)] = True
    return positive


def p_of(values, positive):
    return rank_p_values(sparse.csc_matrix(values[:, None]), positive)[0]


@pytest.mark.parametrize("seed", range(25))
def test_p_is_the_share_of_relabellings_that_are_as_extreme(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 12))
    values = rng.integers(0, 5, n) * (rng.random(n) < 0.6) * 1.0
    positive = classes(n, int(rng.integers(2, n - 2)), rng)
    rank = rankdata(values)
    sums = [rank[list(c)].sum() for c in itertools.combinations(range(n), int(positive.sum()))]
    seen = rank[positive].sum()
    tails = [np.mean(np.array(sums) >= seen - 1e-9), np.mean(np.array(sums) <= seen + 1e-9)]
    assert p_of(values, positive) == pytest.approx(min(1.0, 2 * min(tails)))


@pytest.mark.parametrize(
    ("n", "m", "rate"), [(200, 20, 0.3), (1000, 8, 0.3), (1000, 8, 0.02), (300, 150, 0.2)]
)
def test_p_of_many_texts_is_that_of_shuffling_them(n, m, rate):
    """With a latent that is mostly silent and 8 texts of 1000, the plain normal p is far off."""
    rng = np.random.default_rng(0)
    values = rng.exponential(size=n) * (rng.random(n) < rate)
    rank = rankdata(values)
    shuffled = rng.random((20_000, n)).argpartition(m, axis=1)[:, :m]
    sums = rank[shuffled].sum(1)
    row = int(np.argsort(sums)[-60])  # 60 of 20,000 shuffles are as large: one-sided p 0.003
    positive = np.zeros(n, dtype=bool)
    positive[shuffled[row]] = True
    true = 2 * np.mean(sums >= sums[row] - 1e-9)
    assert true < 0.02
    assert p_of(values, positive) == pytest.approx(true, rel=4 / math.sqrt(60))


def test_a_latent_that_never_fires_has_p_one():
    assert p_of(np.zeros(10), np.arange(10) < 4) == 1.0


def test_no_p_of_so_few_texts_is_smaller_than_the_smallest():
    positive = np.arange(9) < 4
    assert smallest_p_value(positive) == pytest.approx(2 / math.comb(9, 4))
    assert p_of(np.arange(9, 0, -1.0), positive) == pytest.approx(smallest_p_value(positive))


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg():
    p = np.random.default_rng(0).random(50) ** 2
    np.testing.assert_allclose(adjusted(p), false_discovery_control(p))
