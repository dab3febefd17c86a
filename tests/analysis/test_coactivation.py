"""Latents that fire together, parents and children, against plain loops and planted families."""

import numpy as np
import pytest

from saetools.analysis import Neighbours, index_latents, nearest_to
from saetools.analysis.coactivation import coactivation, levels
from saetools.analysis.codes import Codes, turn
from saetools.analysis.neighbours import nearest_latents

torch = pytest.importorskip("torch")


def codes_of(fires: np.ndarray) -> Codes:
    """Codes of rows (n, n_latents) that are on or off, and latents in no order within a row."""
    rng = np.random.default_rng(0)
    latents = [rng.permutation(np.flatnonzero(row)) for row in fires]
    bounds = np.r_[0, np.cumsum([len(found) for found in latents])].astype(np.int64)
    joined = np.concatenate(latents).astype(np.int32)
    return Codes(bounds, joined, np.ones(len(joined), dtype=np.float32), fires.shape[1])


def family_of(fires, train, tmp_path, widths=()):
    """The family of all latents, found in two ranges."""
    codes = codes_of(fires)
    lists, n = turn(codes, tmp_path), fires.shape[1]
    parts = []
    for first, last in ((0, n // 2), (n // 2, n)):
        entries = lists.entries(first, last)
        parts.append(
            coactivation(
                codes, entries, first, last, train=train[entries.row], n_train=int(train.sum()),
                fired_train=fires[train].sum(0), level=levels(n, list(widths)), n=4,
            )
        )  # fmt: skip
    return [
        None if tables[0] is None else Neighbours(
            np.concatenate([t.ids for t in tables]), np.concatenate([t.scores for t in tables])
        )
        for tables in zip(*parts, strict=True)
    ]  # fmt: skip


def test_the_score_is_the_correlation_of_firing_on_training_tokens(tmp_path):
    rng = np.random.default_rng(0)
    common = rng.random((400, 1)) < 0.4
    fires = (rng.random((400, 8)) < 0.2) | (common & (rng.random((400, 8)) < 0.3))
    fires[:, 3] = False
    train = rng.random(400) < 0.7
    near, parents, children = family_of(fires, train, tmp_path)
    assert parents is children is None
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = np.corrcoef(fires[train].T.astype(float))
    for i in range(8):
        others = [j for j in range(8) if j != i and 3 not in (i, j) and wanted[i, j] > 0]
        best = sorted(others, key=lambda j: -wanted[i, j])[:4]
        assert [j for j, _ in near.of(i)] == best
        np.testing.assert_allclose([s for _, s in near.of(i)], wanted[i, best], rtol=1e-5)
    assert near.of(3) == []


def test_counts_beyond_32_bits_do_not_wrap(tmp_path):
    fires = np.zeros((70_000, 2), dtype=bool)
    fires[:60_000] = True
    near, *_ = family_of(fires, np.ones(70_000, dtype=bool), tmp_path)
    assert near.of(0) == [(1, 1.0)]


def test_dense_latents_are_no_neighbours_by_chance_nor_pairs_that_met_twice(tmp_path):
    rng = np.random.default_rng(1)
    fires = rng.random((4000, 4)) < 0.5
    fires[:, 2:] = False
    fires[:2, 2:] = True  # always together, on two tokens
    near, *_ = family_of(fires, np.ones(4000, dtype=bool), tmp_path)
    assert all(score < 0.05 for _, score in near.of(0))
    assert near.of(2) == []


def test_parents_and_children_are_planted_ones(tmp_path):
    rng = np.random.default_rng(2)
    fires = np.zeros((6000, 6), dtype=bool)
    fires[:, 0] = rng.random(6000) < 0.1  # an animal
    fires[:, 1] = rng.random(6000) < 0.9  # fires on nearly everything
    fires[:, 2] = fires[:, 0] & (rng.random(6000) < 0.3)  # a dog: in the second level
    fires[:, 3] = fires[:, 2] & (rng.random(6000) < 0.5)  # a poodle: in the third
    fires[:, 4] = rng.random(6000) < 0.05  # no animal
    fires[:, 5] = fires[:, 3]  # a twin in the same level: no parent
    _, parents, children = family_of(fires, np.ones(6000, dtype=bool), tmp_path, (2, 3, 6))
    assert levels(6, [2, 3, 6]).tolist() == [0, 0, 1, 2, 2, 2]
    assert parents.of(2) == [(0, 1.0)]
    assert [p for p, _ in parents.of(3)] == [0, 2]
    assert parents.of(0) == parents.of(4) == []
    assert sorted(c for c, _ in children.of(0)) == [2, 3, 5]
    assert sorted(c for c, _ in children.of(2)) == [3, 5]
    assert children.of(1) == children.of(3) == []


def test_an_sae_without_widths_has_no_parents(known):
    index = known.index()
    assert index.parents is index.children is None
    assert index.widths == []
    assert (index.level == 0).all()
    active = (known.x > 0)[~known.store.held_out[known.doc]]
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = np.corrcoef(active.T.astype(float))
    for i, row in enumerate(index.coactivation.ids.tolist()):
        for j, score in zip(row, index.coactivation.scores[i], strict=True):
            assert j == -1 or score == pytest.approx(wanted[i, j], abs=1e-6)


def test_an_index_of_a_matryoshka_has_its_levels(make_store):
    from saetools.sae import build_sae

    from .conftest import Pieces

    x = torch.rand(400, 8, generator=torch.Generator().manual_seed(0))
    sae = build_sae("matryoshka", d_in=8, n_latents=16, k=4, widths=(4, 8, 16))
    sae = sae.with_threshold(0.1)
    index = index_latents(
        sae, make_store(x, doc_len=16), model=type("M", (), {"tokenizer": Pieces()})
    )
    assert index.widths == [4, 8, 16]
    assert index.level.tolist() == [0] * 4 + [1] * 4 + [2] * 8
    assert index.parents is not None
    for child in range(16):
        for parent, share in index.parents.of(child):
            assert index.level[parent] < index.level[child]
            assert 0.5 <= share <= 1
            if len(index.children.of(parent)) < 16:  # else it may have more than are kept
                assert child in [c for c, _ in index.children.of(parent)]


def test_decoder_neighbours_are_the_nearest_live_latents():
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 30.0, 180.0, 1.0]))
    W_dec = torch.stack([angles.cos(), angles.sin()], dim=1) * 3  # length does not matter
    near = nearest_latents(W_dec, live=np.arange(4), n=8)  # latent 4 is dead
    assert [j for j, _ in near.of(0)] == [1, 2, 3]
    np.testing.assert_allclose(
        [c for _, c in near.of(0)], np.cos(np.deg2rad([10, 30, 180])), atol=1e-6
    )
    assert near.of(4) == []
    found = nearest_to(torch.tensor([0.0, -2.0]), W_dec, live=np.arange(4), n=2)
    assert [j for j, _ in found] in ([0, 3], [3, 0])
    assert nearest_to(W_dec[2] * 5, W_dec, live=np.arange(4), n=2)[0] == (2, pytest.approx(1.0))


def test_neighbours_do_not_depend_on_blocks(monkeypatch):
    W_dec = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    whole = nearest_latents(W_dec, live=np.arange(50), n=5)
    monkeypatch.setattr("saetools.analysis.neighbours._BLOCK", 7)
    np.testing.assert_array_equal(nearest_latents(W_dec, live=np.arange(50), n=5).ids, whole.ids)
