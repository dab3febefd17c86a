"""Groups of latents that fire together: modularity of the co-activation graph, climbed greedily.

The graph joins each latent with its co-activation neighbours, weighted by their correlation.
Latents move, one at a time, to the neighbouring group that raises the modularity most; then groups
become the points of a smaller graph, and so on until nothing moves. Source: Blondel et al. 2008,
"Fast unfolding of communities in large networks" (Louvain). The order of moves comes from a seed.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from saetools.analysis import Neighbours

__all__ = ["Clusters", "cluster_latents"]

_FEWEST = 3  # latents that make a cluster
_PASSES = 12
_SETTLED = 0.002  # share of points whose moves no longer pay for another pass

Ints = npt.NDArray[np.int64]


class Clusters(NamedTuple):
    """Groups of latents, the largest first.

    Args:
        of_latent: cluster of each latent, -1 where it is in none.
        sizes: latents in each.
        centres: the latent of each that has the most ties inside it.
        modularity: of the grouping; 0 is chance, above 0.3 there is structure.
    """

    of_latent: Ints
    sizes: list[int]
    centres: list[int]
    modularity: float


def cluster_latents(neighbours: Neighbours, *, seed: int = 0) -> Clusters:
    """Cluster latents by their co-activation neighbours; groups below three are none.

    Args:
        neighbours: `index.coactivation`.
        seed: of the order in which latents move.
    """
    graph = _graph(neighbours)
    n = graph.shape[0]
    group = np.arange(n)
    level, rng = graph, np.random.default_rng(seed)
    while True:
        moved = _move(level, rng)
        _, moved = np.unique(moved, return_inverse=True)
        group = moved[group]
        n_groups = int(moved.max(initial=-1)) + 1
        if n_groups == level.shape[0]:
            break
        joined = sparse.csr_array(
            (np.ones(len(moved)), (np.arange(len(moved)), moved)), shape=(len(moved), n_groups)
        )
        level = sparse.csr_array(joined.T @ level @ joined)
    return _named(graph, group)


def _graph(neighbours: Neighbours) -> sparse.csr_array:
    """Symmetric weights: the larger of what either says of the other."""
    n, m = neighbours.ids.shape
    known = (neighbours.ids >= 0) & (neighbours.scores > 0)
    rows = np.repeat(np.arange(n), m).reshape(n, m)[known]
    one_way = sparse.csr_array(
        (neighbours.scores[known].astype(np.float64), (rows, neighbours.ids[known])), shape=(n, n)
    )
    return sparse.csr_array(one_way.maximum(one_way.T))


def _move(graph: sparse.csr_array, rng: np.random.Generator) -> Ints:
    """Groups of the points after moves that each raise the modularity."""
    n, total = graph.shape[0], float(graph.sum())
    group: list[int] = list(range(n))
    if total == 0:
        return np.array(group)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    strength, weight = degree.tolist(), degree.tolist()  # of groups, of points
    bounds, others, values = graph.indptr.tolist(), graph.indices.tolist(), graph.data.tolist()
    for _ in range(_PASSES):
        n_moved = 0
        for i in rng.permutation(n).tolist():
            ties: dict[int, float] = {}
            for at in range(bounds[i], bounds[i + 1]):
                if others[at] != i:
                    there = group[others[at]]
                    ties[there] = ties.get(there, 0.0) + values[at]
            own = group[i]
            strength[own] -= weight[i]
            best, gain = own, ties.get(own, 0.0) - strength[own] * weight[i] / total
            for there, tie in ties.items():
                found = tie - strength[there] * weight[i] / total
                if found > gain + 1e-12:
                    best, gain = there, found
            strength[best] += weight[i]
            n_moved += best != own
            group[i] = best
        if n_moved <= _SETTLED * n:
            break
    return np.array(group)


def _named(graph: sparse.csr_array, group: Ints) -> Clusters:
    """Clusters in order of size, with their centres and the modularity of the whole."""
    counts = np.bincount(group)
    order = [g for g in np.argsort(-counts, kind="stable").tolist() if counts[g] >= _FEWEST]
    renumber = np.full(len(counts), -1)
    renumber[order] = np.arange(len(order))
    edges = graph.tocoo()
    inside = group[edges.row] == group[edges.col]
    ties = np.bincount(edges.row[inside], weights=edges.data[inside], minlength=len(group))
    of_latent = renumber[group]
    centres = []
    for cluster in range(len(order)):
        members = np.flatnonzero(of_latent == cluster)
        centres.append(int(members[np.argmax(ties[members])]))
    total = float(graph.sum())
    degree = np.bincount(group, weights=np.asarray(graph.sum(axis=1)).ravel())
    modularity = 0.0
    if total > 0:
        modularity = float(edges.data[inside].sum() / total - ((degree / total) ** 2).sum())
    return Clusters(of_latent, counts[order].tolist(), centres, modularity)
