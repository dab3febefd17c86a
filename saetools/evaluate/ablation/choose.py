"""Choose a concept's latents on train documents, and control latents that fire as often.

A latent is judged by the AUROC with which its largest activation in a document tells the concept's
documents from the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from saetools.errors import ConfigError
from saetools.evaluate.bootstrap import Floats
from saetools.sae import SAE
from saetools.store import ActivationStore

__all__ = [
    "ChosenLatent",
    "LabelIndex",
    "Ranking",
    "auroc_by_latent",
    "choose_latents",
    "rank_by_index",
    "rank_on_store",
]

_BATCH_TOKENS = 4096
_CONTROL_POOL = 20
_CONTROL_MARGIN = 0.15


@runtime_checkable
class LabelIndex(Protocol):
    """The part of a `LatentIndex` that the choice needs."""

    @property
    def labels(self) -> Sequence[str]:
        """Labels of the corpus."""

    @property
    def auroc_train(self) -> npt.NDArray[np.floating]:
        """AUROC of each latent for each label on train documents, (n_latents, n_labels)."""

    @property
    def firing_rate(self) -> npt.NDArray[np.floating]:
        """Share of tokens on which each latent fires, (n_latents,)."""


@dataclass(frozen=True)
class ChosenLatent:
    """A latent of the experiment and the evidence for it.

    Args:
        latent: its index.
        role: "concept": to be ablated; "control": ablated instead, for comparison.
        auroc_train: how well it alone tells the concept on train documents.
        firing_rate: share of train tokens on which it fires.
        matched_to: the concept latent whose firing rate a control latent was matched to.
    """

    latent: int
    role: Literal["concept", "control"]
    auroc_train: float
    firing_rate: float
    matched_to: int | None = None


@dataclass(frozen=True)
class Ranking:
    """Evidence on every latent for one concept: AUROC and firing rate, (n_latents,) each."""

    auroc: Floats
    firing_rate: Floats


def rank_by_index(index: LabelIndex, concept: str) -> Ranking:
    """Take the evidence from an index that has the label."""
    column = np.asarray(index.auroc_train)[:, list(index.labels).index(concept)]
    return Ranking(column.astype(np.float64), np.asarray(index.firing_rate, dtype=np.float64))


def rank_on_store(
    sae: SAE,
    store: ActivationStore,
    *,
    hook_name: str,
    concept_docs: npt.NDArray[np.int64],
    other_docs: npt.NDArray[np.int64],
    other_weight: float,
) -> Ranking:
    """Measure the evidence on documents of the store.

    Args:
        concept_docs: train documents of the concept.
        other_docs: a sample of the other train documents.
        other_weight: documents that each of `other_docs` stands for, so that firing rates are
            those of the corpus and not of a sample rich in the concept.
    """
    docs = np.concatenate([concept_docs, other_docs])
    weights = np.where(np.arange(len(docs)) < len(concept_docs), 1.0, other_weight)
    spans = np.asarray(store.doc_spans)[docs]
    n_latents = sae.config.n_latents
    pooled: list[sparse.csr_matrix] = []
    fired, n_tokens = np.zeros(n_latents), 0.0
    for part in _by_tokens(spans[:, 1] - spans[:, 0]):
        table, counts = _encode_docs(sae, store, hook_name, spans[part])
        pooled.append(table)
        fired += weights[part] @ counts
        n_tokens += float(weights[part] @ (spans[part, 1] - spans[part, 0]))
    positive = np.arange(len(docs)) < len(concept_docs)
    auroc = auroc_by_latent(sparse.vstack(pooled, format="csc"), positive)
    return Ranking(auroc, fired / max(n_tokens, 1.0))


def auroc_by_latent(pooled: sparse.csc_matrix, positive: npt.NDArray[np.bool_]) -> Floats:
    """AUROC of each column for `positive` rows against the others; entries are 0 or more.

    The Mann-Whitney statistic, with ties (all the zeros among them) counted as half. Costs no more
    than a sort of the entries that are stored.
    """
    n_rows, n_columns = pooled.shape
    n_pos = int(positive.sum())
    stored = np.diff(pooled.indptr)
    column = np.repeat(np.arange(n_columns), stored)
    order = np.lexsort((pooled.data, column))
    value, row = pooled.data[order], pooled.indices[order]
    place = np.arange(len(value)) - pooled.indptr[column]  # rank in its column, from 0
    new = np.ones(len(value), dtype=bool)
    new[1:] = (np.diff(value) != 0) | (np.diff(column) != 0)
    first = np.flatnonzero(new)
    size = np.diff(np.append(first, len(value)))
    rank = (place[first] + (size + 1) / 2)[np.cumsum(new) - 1]  # ties share their mean rank
    zeros = n_rows - stored
    hit = positive[row]
    ranks = np.bincount(column[hit], weights=(zeros[column] + rank)[hit], minlength=n_columns)
    silent = n_pos - np.bincount(column[hit], minlength=n_columns)
    ranks = ranks + silent * (zeros + 1) / 2
    auroc: Floats = (ranks - n_pos * (n_pos + 1) / 2) / max(n_pos * (n_rows - n_pos), 1)
    return auroc


def choose_latents(
    ranking: Ranking, *, concept: str, n_latents: int, max_firing_rate: float, seed: int
) -> list[ChosenLatent]:
    """The concept's latents, best first, and a control latent for each.

    Latents that fire on more than `max_firing_rate` of the tokens are left out: they serve
    everything. A control is drawn among the 20 unused live latents nearest in log firing rate that
    say little about the concept (AUROC within 0.15 of one half), or among all where too few do.

    Raises:
        ConfigError: no latent tells the concept from the rest.
    """
    rate = ranking.firing_rate
    auroc = np.where((rate > 0) & np.isfinite(ranking.auroc), ranking.auroc, 0.0)
    usable = np.where(rate <= max_firing_rate, auroc, 0.0)
    best = [int(i) for i in np.argsort(-usable, kind="stable")[:n_latents] if usable[i] > 0.5]
    if not best:
        raise ConfigError(
            f"no latent tells {concept!r} from the rest on train documents (best AUROC "
            f"{usable.max():.2f} among those firing on at most {max_firing_rate:.0%} of tokens); "
            "train the SAE longer, or choose another concept"
        )
    free = (rate > 0) & ~np.isin(np.arange(len(rate)), best)
    neutral = free & (np.abs(auroc - 0.5) <= _CONTROL_MARGIN)
    controls = _match(rate, best, neutral if neutral.sum() >= len(best) else free, seed)

    def evidence(latent: int) -> tuple[float, float]:
        return float(auroc[latent]), float(rate[latent])

    return [
        *(ChosenLatent(latent, "concept", *evidence(latent)) for latent in best),
        *(ChosenLatent(c, "control", *evidence(c), matched_to=to) for c, to in controls),
    ]


def _match(
    rate: Floats, wanted: list[int], allowed: npt.NDArray[np.bool_], seed: int
) -> list[tuple[int, int]]:
    """Pairs of a control latent and the latent it is matched to; fewer if latents run out."""
    rng = np.random.default_rng([seed, 0xC0])
    left = np.flatnonzero(allowed)
    pairs: list[tuple[int, int]] = []
    for latent in wanted:
        if len(left) == 0:
            break
        gap = np.abs(np.log(rate[left]) - np.log(rate[latent]))
        pool = left[np.argsort(gap, kind="stable")[:_CONTROL_POOL]]
        control = int(rng.choice(pool))
        pairs.append((control, latent))
        left = left[left != control]
    return pairs


def _encode_docs(
    sae: SAE, store: ActivationStore, hook_name: str, spans: npt.NDArray[np.int64]
) -> tuple[sparse.csr_matrix, Floats]:
    """Largest activation, and number of tokens fired on, of each latent in each document."""
    n_docs, n_latents = len(spans), sae.config.n_latents
    x = torch.cat([store.rows(int(a), int(b), hook_name=hook_name) for a, b in spans])
    doc = torch.as_tensor(np.repeat(np.arange(n_docs), spans[:, 1] - spans[:, 0]))
    with torch.no_grad():
        latents = sae.encode(x.to(sae.device)).to("cpu")
    cell = (doc.unsqueeze(-1) * n_latents + latents.indices)[latents.active]
    values = latents.values[latents.active].float()
    flat = torch.zeros(n_docs * n_latents)
    largest = flat.scatter_reduce(0, cell, values, "amax").view(n_docs, n_latents)
    counts = torch.bincount(cell, minlength=n_docs * n_latents).view(n_docs, n_latents)
    return sparse.csr_matrix(largest.numpy()), counts.double().numpy()


def _by_tokens(lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Consecutive runs of documents of about a batch of tokens each."""
    number = (np.cumsum(lengths) - lengths) // _BATCH_TOKENS
    return [np.flatnonzero(number == i) for i in np.unique(number)]
