"""p and q values of label associations are those of SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, mannwhitneyu

from saetools.analysis.auroc import Pooled, adjusted, label_test


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.integers(1, 4))
def test_p_is_that_of_the_mann_whitney_test_with_all_ties(seed, density, n_values):
    rng = np.random.default_rng(seed)
    n_docs, n_latents = 30, 4
    dense = rng.integers(1, n_values + 1, (n_docs, n_latents)) * (
        rng.random((n_docs, n_latents)) < density
    )
    label = rng.integers(-1, 2, n_docs)
    label[:3] = -1, 0, 1
    latent, doc = np.nonzero(dense.T)
    value = dense.T[latent, doc].astype(np.float32)
    found = label_test(
        Pooled(latent, doc, value, doc), n_latents=n_latents, label_of_doc=label, n_labels=2,
        docs=np.ones(n_docs, dtype=bool),
    ).p_value  # fmt: skip
    for j in range(n_latents):
        for column in range(2):
            mine, others = dense[label == column, j], dense[label != column, j]
            wanted = 1.0  # SciPy has nan where all values are equal
            if len(np.unique(dense[:, j])) > 1:
                wanted = mannwhitneyu(mine, others, method="asymptotic").pvalue
            assert found[j, column] == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5))
def test_q_is_that_of_benjamini_and_hochberg(seed, n_latents, n_labels):
    p = np.random.default_rng(seed).random((n_latents, n_labels)) ** 3
    np.testing.assert_allclose(adjusted(p).ravel(), false_discovery_control(p.ravel()), rtol=1e-12)


def test_what_cannot_be_tested_is_left_out_of_the_correction():
    p = np.array([[0.01, np.nan], [0.04, np.nan]])
    np.testing.assert_allclose(adjusted(p), [[0.02, 1], [0.04, 1]])


def test_the_index_calls_the_planted_label_and_no_other(known):
    index = known.index()
    told = np.argwhere(index.label_table.q_train < 0.01)
    assert told.tolist() == [[0, 1]]  # latent 0 fires on label1 alone
    assert (index.label_table.q_train[3] == 1).all()  # dead


def test_where_no_label_is_told_a_call_is_as_rare_as_q_says():
    """Where nothing is there, any call at all has a chance of q: 0.1 here, of 400 draws."""
    p = np.random.default_rng(5).random((400, 100, 5))
    called = np.mean([(adjusted(each) < 0.1).any() for each in p])
    assert called == pytest.approx(0.1, abs=0.05)
