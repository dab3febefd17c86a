"""What namers read knows nothing of held-out documents: those may say anything."""

from dataclasses import fields

import numpy as np
import torch

from saetools.analysis import index_latents


def _both(known, make_store):
    """Two indexes whose stores differ in held-out documents alone, and there in every row."""
    held = known.store.held_out[known.doc]
    x = known.x.copy()
    rng = np.random.default_rng(9)
    x[held] = rng.integers(0, 9, size=x[held].shape) * (rng.random(x[held].shape) < 0.5)
    x[:, 3] = 0  # a latent that is dead stays dead
    store = make_store(torch.from_numpy(x), doc_len=16, held_out_fraction=0.5, name="changed.h5")
    assert np.array_equal(store.held_out, known.store.held_out)
    return known.index(), index_latents(known.sae, store, model=known.model, window=5)


def test_no_held_out_document_is_seen_by_what_namers_read(known, make_store):
    one, other = _both(known, make_store)
    assert not np.array_equal(one.stats.mass_held_out, other.stats.mass_held_out)
    for latent in range(12):
        for kind in ("top", "spread"):
            assert one.examples(latent, kind=kind) == other.examples(latent, kind=kind)
        for unit in one.units:
            assert _train_of(one.units[unit].of(latent)) == _train_of(other.units[unit].of(latent))
        mine, theirs = (_train_postings(index, latent) for index in (one, other))
        for column, wanted in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(column, wanted, rtol=1e-3)
    for name in ("n_fired_train", "mass_train"):
        assert np.array_equal(getattr(one.stats, name), getattr(other.stats, name))
    for name in ("auroc_train", "q_train", "n_docs_train"):
        assert np.array_equal(getattr(one.label_table, name), getattr(other.label_table, name))
    for field in fields(one.coactivation):
        assert np.array_equal(
            getattr(one.coactivation, field.name), getattr(other.coactivation, field.name)
        )


def _train_of(rows):
    """What the units of a latent say of training; units of held-out documents alone are none."""
    return [
        (text, int(count), float(mass), int(background))
        for text, count, mass, background in zip(
            rows.text, rows.count, rows.mass, rows.background, strict=True
        )
        if count
    ]


def _train_postings(index, latent):
    found = index.postings(latent)
    seen = ~index.docs.held_out[found.doc]
    return [column[seen] for column in found]
