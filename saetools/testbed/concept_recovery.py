"""Which concepts of the planted world an SAE has a latent for.

The latent of a concept is the one with the greatest AUROC on training documents; what is reported
is its AUROC on held-out ones. AUROC: the chance that the latent is more active at a unit of the
concept than at another unit; ties count half. 1 is perfect, 0.5 is chance. A unit is a token for
words, a sentence for what facts say, a document for topics and the like; a latent is as active in
the latter two as at the token where it is strongest.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from saetools import progress
from saetools.analysis.auroc import Pooled, auroc, pool_documents
from saetools.analysis.codes import Codes, CodeWriter, Entries
from saetools.sae import SAE
from saetools.store import ActivationStore
from saetools.testbed.truth import Layer, WorldTruth

__all__ = ["ConceptRecovery", "FoundConcept", "recover_concepts"]

_BATCH_TOKENS = 8192
_N_BEST = 8


class FoundConcept(NamedTuple):
    """A concept and the latents that tell it best.

    layer is its sort (entity, value, topic, ...); latents are up to eight, the best on training
    documents first, and all figures are those of the first. auroc is measured on held-out
    documents, where the concept is on at n_units units; precision and recall are those of "the
    latent fires" there, precision NaN where it never fires.
    """

    layer: str
    name: str
    latents: tuple[int, ...]
    auroc: float
    auroc_train: float
    precision: float
    recall: float
    n_units: int

    @property
    def latent(self) -> int:
        """The latent that tells it best."""
        return self.latents[0]


@dataclass(frozen=True)
class ConceptRecovery:
    """All concepts that are frequent enough, best latent each.

    Args:
        concepts: in the order of layers and labels.
        n_rare: concepts left out, as they occur too seldom to be judged.
    """

    concepts: tuple[FoundConcept, ...]
    n_rare: int

    def recovered(self, *, least: float = 0.9) -> tuple[FoundConcept, ...]:
        """Concepts whose latent has at least this AUROC on held-out documents."""
        return tuple(concept for concept in self.concepts if concept.auroc >= least)

    def by_layer(self, *, least: float = 0.9) -> dict[str, tuple[int, int, float]]:
        """Of each layer: concepts recovered, concepts in all, median AUROC."""
        names = dict.fromkeys(concept.layer for concept in self.concepts)
        table = {}
        for name in names:
            scores = [concept.auroc for concept in self.concepts if concept.layer == name]
            n_found = sum(score >= least for score in scores)
            table[name] = (n_found, len(scores), float(np.median(scores)))
        return table


def recover_concepts(
    sae: SAE,
    store: ActivationStore,
    truth: WorldTruth,
    *,
    min_train: int = 20,
    min_held_out: int = 5,
) -> ConceptRecovery:
    """Find the latent of every planted concept.

    Args:
        sae: reads the store's first hook.
        store: with the held-out documents that training did not see.
        truth: what holds at its rows.
        min_train, min_held_out: units at which a concept has to be on to be judged.
    """
    best: dict[str, _Best] = {}
    with tempfile.TemporaryDirectory(prefix="saetools-codes-") as scratch:
        codes = _encode(sae, store, Path(scratch))
        parts = list(codes.parts())
        with progress.task("recover", total=len(parts) * len(truth.layers), unit="parts") as task:
            for first, last in parts:
                entries = codes.entries(first, last)
                for name, layer in truth.layers.items():
                    task.note(layer=name)
                    scored = _scored(entries, first, last, layer)
                    best[name] = scored.joined(best.get(name))
                    task.advance()
        wanted = np.unique(np.concatenate([found.latent[0] for found in best.values()]))
        rows = _rows_of(codes, wanted)
    found = [
        _found(name, layer, int(i), best[name], rows)
        for name, layer in truth.layers.items()
        for i in np.flatnonzero(_frequent(layer, min_train, min_held_out))
    ]
    n_all = sum(len(layer.names) for layer in truth.layers.values())
    return ConceptRecovery(tuple(found), n_all - len(found))


@dataclass(frozen=True)
class _Best:
    """The best latents of each label of a layer by AUROC on training rows, (n, n_labels)."""

    latent: npt.NDArray[np.int64]
    train: npt.NDArray[np.float64]
    held_out: npt.NDArray[np.float64]

    def joined(self, other: "_Best | None") -> "_Best":
        """The best of both."""
        if other is None:
            return self
        pairs = zip(self._columns, other._columns, strict=True)
        return _Best(*(np.concatenate(pair) for pair in pairs)).best()

    def best(self) -> "_Best":
        """The first `_N_BEST` of each label, strongest first; equals stay in their order."""
        order = np.argsort(-self.train, axis=0, kind="stable")[:_N_BEST]
        return _Best(*(np.take_along_axis(column, order, axis=0) for column in self._columns))

    @property
    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.latent, self.train, self.held_out


def _scored(entries: Entries, first: int, last: int, layer: Layer) -> _Best:
    """The best of the latents `first` to `last - 1`, of which `entries` are."""
    pooled = _pooled(entries, first, layer)
    train, held = (
        np.nan_to_num(
            auroc(
                pooled,
                n_latents=last - first,
                label_of_doc=layer.label,
                n_labels=len(layer.names),
                docs=layer.counted & units,
            ),
            nan=0.5,
        )
        for units in (~layer.held_out, layer.held_out)
    )
    latent = np.broadcast_to(np.arange(first, last)[:, None], train.shape)
    return _Best(latent, train, held).best()


def _pooled(entries: Entries, first: int, layer: Layer) -> Pooled:
    """The largest activation of each latent in each unit; latents are counted from `first`."""
    latent = entries.latent - first
    if layer.unit_of_row is None:
        return Pooled(latent, entries.row, entries.value, entries.row)
    inside = layer.unit_of_row[entries.row] >= 0
    return pool_documents(
        latent[inside], entries.row[inside], entries.value[inside], doc_of_row=layer.unit_of_row
    )


def _frequent(layer: Layer, min_train: int, min_held_out: int) -> npt.NDArray[np.bool_]:
    """Labels that are on at enough units of training and of held-out documents."""
    on = (layer.label >= 0) & layer.counted
    train, held = (
        np.bincount(layer.label[on & units], minlength=len(layer.names))
        for units in (~layer.held_out, layer.held_out)
    )
    return np.asarray((train >= min_train) & (held >= min_held_out))


def _rows_of(codes: Codes, latents: npt.NDArray[np.int64]) -> dict[int, npt.NDArray[np.int64]]:
    """Rows on which each of the (sorted) latents fires."""
    found: dict[int, npt.NDArray[np.int64]] = {}
    for first, last in codes.parts():
        entries = codes.entries(first, last)
        for latent in latents[(latents >= first) & (latents < last)].tolist():
            start, stop = np.searchsorted(entries.latent, [latent, latent + 1])
            found[latent] = entries.row[start:stop]
    return found


def _found(
    name: str,
    layer: Layer,
    i: int,
    best: _Best,
    fired: Mapping[int, npt.NDArray[np.int64]],
) -> FoundConcept:
    latents = tuple(best.latent[:, i].tolist())
    fires = np.zeros(len(layer.label), dtype=bool)
    rows = fired[latents[0]]
    units = rows if layer.unit_of_row is None else layer.unit_of_row[rows]
    fires[units[units >= 0]] = True
    asked = layer.held_out & layer.counted
    on = asked & (layer.label == i)
    n_fires, n_on, n_both = int((fires & asked).sum()), int(on.sum()), int((fires & on).sum())
    return FoundConcept(
        layer=name,
        name=layer.names[i],
        latents=latents,
        auroc=float(best.held_out[0, i]),
        auroc_train=float(best.train[0, i]),
        precision=n_both / n_fires if n_fires else math.nan,
        recall=n_both / n_on,
        n_units=n_on,
    )


def _encode(sae: SAE, store: ActivationStore, folder: Path) -> Codes:
    writer = CodeWriter(folder, n_latents=sae.config.n_latents)
    with progress.task("encode", total=store.n_tokens, unit="tokens") as task, torch.no_grad():
        for x in _rows(sae, store):
            writer.append(sae.encode(x))
            task.advance(len(x))
    return writer.close()


def _rows(sae: SAE, store: ActivationStore) -> Iterator[torch.Tensor]:
    for batch in store.stream(batch_tokens=_BATCH_TOKENS):
        yield batch.x.to(sae.device)
