"""How well the strongest activation of a latent in a document tells the document's label.

AUROC: the chance that a document of the label has a larger maximum than one of another label;
0.5 is chance, 1 is perfect, ties count half. Beside it the p value of the Mann-Whitney test, and
Benjamini-Hochberg over all pairs of latent and label.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.special import ndtr

from saetools.analysis.order import places, weakest_first

__all__ = ["LabelTest", "Pooled", "adjusted", "auroc", "label_test", "pool_documents"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pooled:
    """Largest activation of each latent in each document where it fires; sorted by latent, doc.

    Args:
        latent, doc: which latent, in which document.
        value: its largest activation there.
        row: first row where it has that value.
    """

    latent: Ints
    doc: Ints
    value: npt.NDArray[np.float32]
    row: Ints

    def take(self, chosen: npt.NDArray[np.generic]) -> "Pooled":
        """The pairs that an index array or mask chooses."""
        return Pooled(self.latent[chosen], self.doc[chosen], self.value[chosen], self.row[chosen])


def pool_documents(
    latent: Ints, row: Ints, value: npt.NDArray[np.float32], *, doc_of_row: npt.NDArray[np.int32]
) -> Pooled:
    """Reduce activations sorted by (latent, row) to one maximum a document."""
    doc = doc_of_row[row].astype(np.int64)
    if not len(latent):
        return Pooled(latent, doc, value, row)
    new = np.r_[True, (latent[1:] != latent[:-1]) | (doc[1:] != doc[:-1])]
    starts = np.flatnonzero(new)
    best = np.maximum.reduceat(value, starts)
    group = np.cumsum(new) - 1
    peaks = np.flatnonzero(value == best[group])
    first = peaks[np.r_[True, group[peaks][1:] != group[peaks][:-1]]]
    return Pooled(latent[first], doc[first], value[first], row[first])


class LabelTest(NamedTuple):
    """How well each latent tells each label: AUROC, and the chance to see that much by luck.

    `p_value` is that of the two-sided Mann-Whitney test by the normal approximation, corrected for
    ties and continuity; 1 where nothing can be said.
    """

    auroc: Float[np.ndarray, "n_latents n_labels"]
    p_value: Float[np.ndarray, "n_latents n_labels"]


def auroc(
    pooled: Pooled,
    *,
    n_latents: int,
    label_of_doc: Ints,
    n_labels: int,
    docs: npt.NDArray[np.bool_],
) -> Float[np.ndarray, "n_latents n_labels"]:
    """The AUROC that `label_test` finds, without the p value."""
    return label_test(
        pooled, n_latents=n_latents, label_of_doc=label_of_doc, n_labels=n_labels, docs=docs
    ).auroc


def label_test(
    pooled: Pooled,
    *,
    n_latents: int,
    label_of_doc: Ints,
    n_labels: int,
    docs: npt.NDArray[np.bool_],
) -> LabelTest:
    """AUROC of each latent for each label against all other documents, with its p value.

    No (documents × latents) table is built: silent documents are one tie of rank (n_silent + 1)/2.

    Args:
        pooled: latents counted from 0 to n_latents - 1.
        n_latents: rows of the result.
        label_of_doc: label of each document, -1 for none that counts, shape (n_docs,).
        n_labels: columns of the result.
        docs: documents to look at, shape (n_docs,).
    """
    pooled = pooled.take(docs[pooled.doc])
    n_docs = int(docs.sum())
    fires = np.bincount(pooled.latent, minlength=n_latents)
    silent = n_docs - fires
    order = weakest_first(pooled.latent, pooled.value)
    latent, label = pooled.latent[order], label_of_doc[pooled.doc[order]]
    ties = _ties(latent, pooled.value[order])
    rank = silent[latent] + np.repeat(ties.rank, ties.size)
    known = label >= 0
    cell = latent[known] * n_labels + label[known]
    shape = (n_latents, n_labels)
    rank_sum = np.bincount(cell, weights=rank[known], minlength=n_latents * n_labels).reshape(shape)
    n_firing = np.bincount(cell, minlength=n_latents * n_labels).reshape(shape)
    members = label_of_doc[docs]
    n_label = np.bincount(members[members >= 0], minlength=n_labels)
    of_silent = (n_label - n_firing) * (silent[:, None] + 1) / 2
    wins = rank_sum + of_silent - n_label * (n_label + 1) / 2
    pairs = n_label * (n_docs - n_label)
    tied = np.bincount(ties.latent, weights=_cubes(ties.size), minlength=n_latents)
    with np.errstate(invalid="ignore", divide="ignore"):  # a label of all or no documents: nan
        return LabelTest(
            np.asarray(wins / pairs), _p_values(wins, pairs, n_docs, tied + _cubes(silent))
        )


def adjusted(p_value: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Benjamini-Hochberg adjusted p values over all entries that are not nan, which become 1.

    Calling "told" what lies below q leaves a share of at most q false calls, on average (Benjamini
    and Hochberg 1995; it holds for the positively dependent tests that documents in common make).
    """
    q = np.ones(p_value.shape)
    tested = np.flatnonzero(~np.isnan(p_value))
    order = tested[np.argsort(p_value.flat[tested], kind="stable")]
    scaled = p_value.flat[order] * len(order) / np.arange(1, len(order) + 1)
    q.flat[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def _p_values(
    wins: npt.NDArray[np.float64], pairs: Ints, n_docs: int, tied: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Two-sided p values; `tied` is Σ (t³ − t) over the ties of each latent."""
    spread = n_docs + 1 - tied / max(n_docs * (n_docs - 1), 1)
    deviation = np.sqrt(np.maximum(pairs * spread[:, None], 0) / 12)
    z = (np.abs(wins - pairs / 2) - 0.5) / deviation
    return np.asarray(np.where(deviation > 0, np.minimum(2 * ndtr(-z), 1.0), 1.0))


class _Ties(NamedTuple):
    """Runs of equal values: whose they are, their mean rank from 1 within it, and their length."""

    latent: Ints
    rank: npt.NDArray[np.float64]
    size: Ints


def _ties(latent: Ints, value: npt.NDArray[np.float32]) -> _Ties:
    """Runs of equal values of values sorted by (latent, value)."""
    if not len(latent):
        return _Ties(latent, np.zeros(0), latent)
    new = np.r_[True, (latent[1:] != latent[:-1]) | (value[1:] != value[:-1])]
    starts = np.flatnonzero(new)
    size = np.diff(np.r_[starts, len(latent)])
    return _Ties(latent[starts], places(latent)[starts] + (size + 1) / 2, size)


def _cubes(size: Ints) -> npt.NDArray[np.float64]:
    wide = size.astype(np.float64)
    return wide**3 - wide
