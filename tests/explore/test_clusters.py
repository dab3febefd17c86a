"""Clusters of latents that fire together: planted groups come back, chance is no structure."""

import numpy as np

from saetools.analysis import Neighbours
from saetools.explore.clusters import cluster_latents


def planted(sizes: list[int], *, across: float, seed: int = 0) -> tuple[Neighbours, np.ndarray]:
    """Groups whose latents have eight neighbours, a share `across` of them in another group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    table = Neighbours.none(len(group), 8)
    for latent in range(len(group)):
        own = np.flatnonzero((group == group[latent]) & (np.arange(len(group)) != latent))
        other = np.flatnonzero(group != group[latent])
        n_other = int((rng.random(8) < across).sum()) if len(other) else 0
        chosen = np.r_[rng.choice(own, 8 - n_other, replace=False), rng.choice(other, n_other)]
        table.ids[latent, : len(chosen)] = chosen
        table.scores[latent, : len(chosen)] = 0.5
    return table, group


def test_planted_groups_are_found_largest_first() -> None:
    table, group = planted([60, 40, 25], across=0.1)
    found = cluster_latents(table)
    assert found.sizes == [60, 40, 25]
    assert np.array_equal(found.of_latent, group)
    assert [int(group[centre]) for centre in found.centres] == [0, 1, 2]
    assert found.modularity > 0.4


def test_groups_without_ties_have_the_modularity_of_theory() -> None:
    table, _ = planted([20, 20, 20, 20], across=0.0)
    found = cluster_latents(table)
    assert abs(found.modularity - 0.75) < 0.02  # 1 - 1/4 for four equal groups


def test_latents_without_neighbours_are_in_no_cluster() -> None:
    found = cluster_latents(Neighbours.none(10))
    assert found.sizes == []
    assert (found.of_latent == -1).all()
    assert found.modularity == 0.0
    assert cluster_latents(Neighbours.none(0)).sizes == []


def test_pairs_are_no_cluster() -> None:
    table = Neighbours.none(4, 1)
    table.ids[:, 0], table.scores[:, 0] = [1, 0, 3, 2], 1.0
    assert cluster_latents(table).sizes == []


def test_the_same_seed_gives_the_same_clusters() -> None:
    table, _ = planted([30, 30, 30], across=0.5)
    one, other = cluster_latents(table, seed=3), cluster_latents(table, seed=3)
    assert np.array_equal(one.of_latent, other.of_latent)
