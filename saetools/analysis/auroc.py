"""How well the strongest activation of a latent in a document tells the document's label.

AUROC: the chance that a document of the label has a larger maximum than one of another label;
0.5 is chance, 1 is perfect, ties count half.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from saetools.analysis.order import places, weakest_first

__all__ = ["Pooled", "auroc", "pool_documents"]

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


def auroc(
    pooled: Pooled,
    *,
    n_latents: int,
    label_of_doc: Ints,
    n_labels: int,
    docs: npt.NDArray[np.bool_],
) -> Float[np.ndarray, "n_latents n_labels"]:
    """AUROC of each latent for each label against all other documents.

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
    rank = silent[latent] + _ranks(latent, pooled.value[order])
    known = label >= 0
    cell = latent[known] * n_labels + label[known]
    shape = (n_latents, n_labels)
    rank_sum = np.bincount(cell, weights=rank[known], minlength=n_latents * n_labels).reshape(shape)
    n_firing = np.bincount(cell, minlength=n_latents * n_labels).reshape(shape)
    members = label_of_doc[docs]
    n_label = np.bincount(members[members >= 0], minlength=n_labels)
    of_silent = (n_label - n_firing) * (silent[:, None] + 1) / 2
    wins = rank_sum + of_silent - n_label * (n_label + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):  # a label of all or no documents: nan
        return np.asarray(wins / (n_label * (n_docs - n_label)))


def _ranks(latent: Ints, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Rank from 1 within each latent of values sorted by (latent, value); ties share the mean."""
    if not len(latent):
        return np.zeros(0)
    new = np.r_[True, (latent[1:] != latent[:-1]) | (value[1:] != value[:-1])]
    starts = np.flatnonzero(new)
    lengths = np.diff(np.r_[starts, len(latent)])
    mean = places(latent)[starts] + (lengths + 1) / 2
    return np.asarray(np.repeat(mean, lengths))
