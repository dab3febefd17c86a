"""AUROC from sparse maxima equals the one over all documents."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from saetools.analysis.auroc import Pooled, auroc, pool_documents


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.integers(1, 4))
def test_sparse_auroc_is_that_of_sklearn_with_all_ties(seed, density, n_values):
    rng = np.random.default_rng(seed)
    n_docs, n_latents, n_labels = 25, 4, 3
    dense = rng.integers(1, n_values + 1, (n_docs, n_latents)) * (
        rng.random((n_docs, n_latents)) < density
    )
    label = rng.integers(-1, n_labels, n_docs)
    label[: n_labels + 1] = np.arange(-1, n_labels)
    docs = rng.random(n_docs) < 0.8
    docs[: n_labels + 1] = True
    latent, doc = np.nonzero(dense.T)
    value = dense.T[latent, doc].astype(np.float32)
    found = auroc(
        Pooled(latent, doc, value, doc),
        n_latents=n_latents,
        label_of_doc=label,
        n_labels=n_labels,
        docs=docs,
    )
    for j in range(n_latents):
        for column in range(n_labels):
            wanted = roc_auc_score(label[docs] == column, dense[docs, j])
            assert abs(found[j, column] - wanted) < 1e-12


def test_pooling_keeps_the_first_of_equal_peaks():
    pooled = pool_documents(
        np.array([0, 0, 0, 1]),
        np.array([1, 2, 5, 2]),
        np.array([3, 3, 1, 2], dtype=np.float32),
        doc_of_row=np.array([0, 0, 0, 1, 1, 1], dtype=np.int32),
    )
    assert pooled.latent.tolist() == [0, 0, 1]
    assert pooled.doc.tolist() == [0, 1, 0]
    assert pooled.row.tolist() == [1, 5, 2]
    assert pooled.value.tolist() == [3, 1, 2]


def test_a_label_of_all_documents_has_no_auroc():
    pooled = Pooled(*(np.zeros(1, dtype=np.int64),) * 2, np.ones(1, np.float32), np.zeros(1, int))
    found = auroc(
        pooled,
        n_latents=1,
        label_of_doc=np.zeros(3, dtype=np.int64),
        n_labels=1,
        docs=np.ones(3, dtype=bool),
    )
    assert np.isnan(found).all()
