"""Every activation can be found again, on disk and in memory, by document and place."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saetools.analysis import LatentIndex
from saetools.analysis.codes import CodeLists
from saetools.analysis.postings import CodedLists, TurnedLists, decode
from saetools.errors import FormatError, UnknownNameError


def test_postings_are_all_activations_of_the_store(known, tmp_path):
    for index in (known.index(), known.index(out=tmp_path / "i.h5")):
        for latent in range(12):
            found = index.postings(latent)
            rows = np.flatnonzero(known.x[:, latent])
            assert np.array_equal(found.doc, known.doc[rows])
            assert np.array_equal(found.pos, rows % 16)
            np.testing.assert_allclose(found.value, known.x[rows, latent], rtol=2**-11)
            assert found.doc.dtype == found.pos.dtype == np.int32
            assert found.value.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-30, 1e30))
def test_a_coded_value_is_off_by_what_the_format_says(seed, scale):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 9, 5)
    n = int(sizes.sum())
    value = (rng.random(n) ** 8 * scale + scale * 1e-9).astype(np.float32)
    row = np.concatenate([np.sort(rng.choice(2**31 - 1, s, replace=False)) for s in sizes])
    bounds = np.r_[0, np.cumsum(sizes)]
    largest = np.array([value[a:b].max(initial=0) for a, b in pairwise(bounds)])
    lists = TurnedLists(CodeLists(bounds, row.astype(np.int32), value), largest)
    whole = CodedLists(bounds, *lists.read(0, n))
    for j in range(5):
        start, stop = int(bounds[j]), int(bounds[j + 1])
        rows, values = decode(whole.read(start, stop), largest=float(largest[j]))
        assert np.array_equal(rows, row[start:stop])
        assert (values > 0).all()
        allowed = np.maximum(value[start:stop] / 2048 * 1.0001, 6e-8 * largest[j])
        assert (np.abs(values - value[start:stop]) <= allowed).all()
    for cut in range(n):  # however the entries are cut, they are coded alike
        parts = lists.read(0, cut), lists.read(cut, n)
        assert np.array_equal(np.concatenate([p.step for p in parts]), whole.step)
        assert np.array_equal(np.concatenate([p.share for p in parts]), whole.share)


def test_any_window_of_any_document_can_be_shown(known):
    index = known.index(n_examples=4)
    for kind in ("top", "held_out"):
        for shown in index.examples(5, kind=kind):
            first = shown.doc * 16
            pos = int(known.x[first : first + 16, 5].argmax())
            again = index.context_at(5, shown.doc, pos)
            assert again.tokens == shown.tokens
            assert again.peak == shown.peak
            np.testing.assert_allclose(again.acts, shown.acts, rtol=2**-11)
    silent = index.context_at(3, 7, 0, window=2)
    assert silent.acts == [0.0] * 3
    assert silent.tokens == index.tokens_of(7)[:3]
    assert len(index.tokens_of(89)) == 16
    with pytest.raises(UnknownNameError, match="no document 90; the index has 90"):
        index.tokens_of(90)
    with pytest.raises(UnknownNameError, match="no place 16 in document 3; it has 16 tokens"):
        index.context_at(0, 3, 16)


def test_a_saved_index_can_be_saved_elsewhere_and_does_not_read_another_one(known, tmp_path):
    index = known.index(out=tmp_path / "a.h5")
    index.save(tmp_path / "b.h5")
    index.save(tmp_path / "a.h5")  # onto itself
    copy = LatentIndex.load(tmp_path / "b.h5")
    for latent in (0, 5):
        for mine, wanted in zip(copy.postings(latent), index.postings(latent), strict=True):
            assert np.array_equal(mine, wanted)
    known.index(out=tmp_path / "a.h5", seed=1)
    with pytest.raises(FormatError, match="another index than the one that was loaded"):
        index.postings(5)
    (tmp_path / "b.h5").unlink()
    with pytest.raises(FormatError, match="cannot be read any more"):
        copy.postings(5)
