"""Probes of concepts: scikit-learn's solution, and nothing selected on what is tested."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from saetools.evaluate.concepts.logistic import fit_logistic, logits
from saetools.evaluate.concepts.probe import concept_rows, cross_fit, difference_scores
from saetools.evaluate.concepts.scores import accuracy_draws, auroc_draws, draws_of, spread


def _noise(n: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


@pytest.mark.parametrize("width", [1, 5, 40])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_logistic_fits_are_those_of_scikit_learn(width: int, as_sparse: bool) -> None:
    x, rng = _noise(120, width).astype(np.float64), np.random.default_rng(1)
    positive = x[:, 0] + rng.normal(size=120) > 0.5
    rows = rng.random((4, 120)) < 0.7
    C = np.array([1e-3, 1e-2, 0.1, 1.0])
    fits = fit_logistic(sparse.csr_matrix(x) if as_sparse else x, positive, rows=rows, C=C)
    for i, fit in enumerate(fits):
        theirs = LogisticRegression(C=C[i], class_weight="balanced", tol=1e-8, max_iter=10_000)
        theirs.fit(x[rows[i]], positive[rows[i]])
        expected = np.append(theirs.coef_.ravel(), theirs.intercept_)
        np.testing.assert_allclose(fit, expected, atol=1e-5 if width < 32 else 5e-3)
        np.testing.assert_allclose(
            logits(x, fits)[i], theirs.decision_function(x), atol=1e-4 if width < 32 else 2e-2
        )


def test_separable_classes_are_fitted_without_overflow() -> None:
    x = np.concatenate([np.zeros(50), np.full(50, 1e3)])[:, None]
    positive = x[:, 0] > 0
    rows = np.ones((1, 100), dtype=bool)
    fit = fit_logistic(x, positive, rows=rows, C=np.array([1.0]))
    assert np.isfinite(fit).all()
    assert ((logits(x, fit)[0] > 0) == positive).all()


@given(seed=st.integers(0, 10_000), ties=st.booleans())
@settings(max_examples=30, deadline=None)
def test_scores_are_those_of_scikit_learn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    positive = np.arange(40) % 3 == 0
    scores = rng.normal(size=40) + positive
    scores = np.round(scores) if ties else scores
    ones = np.ones((1, 40))
    assert auroc_draws(scores, positive, ones)[0] == pytest.approx(roc_auc_score(positive, scores))
    assert accuracy_draws(scores, positive, ones)[0] == pytest.approx(
        balanced_accuracy_score(positive, scores > 0)
    )


def test_a_resample_is_the_score_of_the_texts_repeated() -> None:
    rng = np.random.default_rng(0)
    positive, scores = np.arange(30) % 2 == 0, rng.normal(size=30)
    weights = draws_of(30, seed=3, n_draws=5)
    for draw, auroc in zip(weights, auroc_draws(scores, positive, weights), strict=True):
        again = np.repeat(np.arange(30), draw.astype(int))
        assert auroc == pytest.approx(roc_auc_score(positive[again], scores[again]))


def test_the_standard_error_is_that_of_new_texts() -> None:
    """The spread of resamples of one set is near that of the AUROC over many fresh sets."""
    positive = np.arange(200) % 2 == 0
    fresh, estimated = [], []
    for seed in range(200):
        scores = np.random.default_rng(seed).normal(size=200) + positive
        fresh.append(auroc_draws(scores, positive, np.ones((1, 200)))[0])
        if seed < 10:
            estimated.append(spread(auroc_draws(scores, positive, draws_of(200, seed=seed))))
    assert np.mean(estimated) == pytest.approx(np.std(fresh), rel=0.25)


def test_selection_on_noise_is_worth_nothing_on_held_out_texts() -> None:
    """Of 5000 units of noise the best five tell the classes of the texts they were chosen on, and
    nothing on others; a choice made before the split would give about 0.75 here."""
    n, positive = 160, np.arange(160) % 2 == 0
    x = _noise(n, 5000)
    leaky = np.argsort(-np.abs(x[positive].mean(0) - x[~positive].mean(0)))[:5]
    ones = np.ones((1, n))
    peeked = cross_fit(x[:, leaky], positive, k=None, seed=0).draws(auroc_draws, positive, ones)
    honest = [
        cross_fit(units, positive, k=5, seed=0).draws(auroc_draws, positive, ones)[0]
        for units in (_noise(n, 5000, seed) for seed in range(6))
    ]
    assert peeked[0] > 0.7
    assert np.mean(honest) == pytest.approx(0.5, abs=0.07)


def test_a_text_is_scored_by_a_probe_that_saw_no_text_of_its_fold() -> None:
    """Whatever the other texts of its fold become, its score stays: nothing was learned there."""
    positive, x = np.arange(60) % 2 == 0, _noise(60, 8)
    held = cross_fit(x, positive, k=2, seed=0)
    assert sorted(np.concatenate(held.folds).tolist()) == list(range(60))
    text, *others = held.folds[0]
    x[others] += 100.0
    assert cross_fit(x, positive, k=2, seed=0).scores[text] == held.scores[text]


def test_sparse_and_dense_units_give_the_same_scores() -> None:
    positive = np.arange(80) % 2 == 0
    x = np.maximum(_noise(80, 20) + positive[:, None] * np.eye(20)[0], 0)
    for k in (1, 5):
        dense, thin = (cross_fit(u, positive, k=k, seed=0) for u in (x, sparse.csr_matrix(x)))
        np.testing.assert_allclose(dense.scores, thin.scores, atol=1e-5)
        np.testing.assert_array_equal(dense.first, thin.first)


def test_permuting_units_changes_no_score() -> None:
    positive = np.arange(80) % 2 == 0
    x = _noise(80, 30) + 0.8 * positive[:, None] * np.eye(30)[7]
    order = np.random.default_rng(5).permutation(30)
    one, other = (cross_fit(u, positive, k=2, seed=0) for u in (x, x[:, order]))
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    np.testing.assert_array_equal(one.first, order[other.first])


def test_the_difference_of_means_separates_what_it_points_at() -> None:
    positive = np.arange(100) % 2 == 0
    x = 0.1 * _noise(100, 8) + positive[:, None] * np.eye(8)[3]
    held = difference_scores(x.astype(np.float32), positive, seed=0)
    assert ((held.scores > 0) == positive).all()


def test_rows_of_a_concept_are_balanced() -> None:
    member = np.arange(100) < 30
    rows = concept_rows(member, most=20, seed=0)
    assert member[rows].sum() == 20
    assert len(rows) == len(set(rows.tolist())) == 40
    assert member[concept_rows(member, most=500, seed=0)].sum() == 30
