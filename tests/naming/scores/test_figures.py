"""Figures against known answers."""

import numpy as np
import pytest

from saetools.naming.scores.figures import agreement, area, bootstrap, correlation, wilson


def test_wilson_against_the_textbook():
    assert wilson(15, 20) == pytest.approx((0.531, 0.888), abs=1e-3)
    assert wilson(0, 10)[0] == 0
    assert 0 < wilson(0, 10)[1] < 0.35
    assert all(np.isnan(v) for v in wilson(0, 0))


def test_agreement_counts():
    fires = np.array([True] * 4 + [False] * 6)
    score = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, np.nan], dtype=float)
    found = agreement(fires, score)
    assert found.value == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert found.details["precision"] == pytest.approx(3 / 4)
    assert found.details["f1"] == pytest.approx(6 / 8)
    assert found.details["n_unanswered"] == 1
    assert (found.n_positive, found.n_negative) == (4, 5)
    assert found.low < found.value < found.high


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        yes = np.r_[rng.random(50) < 0.9, rng.random(50) < 0.3].astype(float)
        found = agreement(np.arange(100) < 50, yes)
        covered += found.low <= 0.8 <= found.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_area_and_correlation():
    assert area(np.array([True, False]), np.array([1.0, 0.0])) == 1
    assert area(np.array([True, False]), np.array([0.5, 0.5])) == 0.5
    assert np.isnan(area(np.array([True]), np.array([1.0])))
    assert correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(1)
    assert correlation(np.zeros(3), np.array([2.0, 4, 6])) == 0
    assert np.isnan(correlation(np.array([1.0, 2, 3]), np.zeros(3)))


def test_bootstrap_of_a_mean():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(400, lambda i: float(values[i].mean()), seed=0)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
