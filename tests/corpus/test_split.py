"""Held-out documents: right number, spread, and stable when the corpus grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saetools.corpus import Document, held_out
from saetools.corpus.split import sample
from saetools.errors import ConfigError


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0.01, 0.95), st.integers(0, 9))
def test_a_longer_corpus_keeps_the_split_of_its_beginning(n, more, fraction, seed):
    short = held_out(n, fraction=fraction, seed=seed)
    long = held_out(n + more, fraction=fraction, seed=seed)
    assert np.array_equal(long[:n], short)


@given(st.integers(0, 2000), st.floats(0.0, 0.95), st.integers(0, 9))
def test_the_share_is_exact_to_one_document(n, fraction, seed):
    mask = held_out(n, fraction=fraction, seed=seed)
    assert mask.shape == (n,)
    assert abs(mask.sum() - n * fraction) <= 1


def test_another_seed_is_another_split_and_the_same_seed_the_same():
    first = held_out(1000, fraction=0.1, seed=0)
    assert np.array_equal(first, held_out(1000, fraction=0.1, seed=0))
    assert not np.array_equal(first, held_out(1000, fraction=0.1, seed=1))


def test_a_sorted_corpus_holds_out_every_label():
    mask = held_out(1000, fraction=0.1, seed=3)
    assert (mask.reshape(20, 50).sum(1) >= 4).all()


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ConfigError, match="fraction"):
        held_out(10, fraction=fraction, seed=0)


def test_a_sample_keeps_order_and_shares_and_grows_by_adding():
    documents = [Document(f"text {i}", "ab"[i >= 3000], str(i)) for i in range(4000)]
    small, large = sample(documents, 400), sample(documents, 800)
    assert len(small) == 400
    assert [int(d.title) for d in small] == sorted(int(d.title) for d in small)
    assert set(small) < set(large)
    assert abs(sum(d.label == "a" for d in large) / 800 - 0.75) < 0.05
    assert sample(documents, None) == documents
