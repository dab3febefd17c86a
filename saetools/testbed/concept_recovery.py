"""Which concepts of the planted world an SAE has a latent for.

The latent of a concept is the one whose firing has the best F1 on training documents; all that is
reported is measured on held-out ones. Of a rare concept AUROC alone is a weak judge: a latent that
fires on a tenth of all tokens, and most strongly on these, has 0.99.

    F1    = 2 · both / (latent fires + concept on)                              0 to 1, higher
    AUROC = chance that the latent is more active at a unit of the concept than at another; ties
            count half                                         0 to 1, 0.5 is chance, higher

A unit is a token for words, a sentence for what facts say, a document for topics and the like; a
latent is as active in the latter two as at the token where it is strongest.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saetools import progress
from saetools.analysis.auroc import auroc
from saetools.analysis.codes import CodeLists, Entries
from saetools.sae import SAE
from saetools.store import ActivationStore
from saetools.testbed.firing import encode_store, firing_f1, frequent, pooled_by_unit
from saetools.testbed.truth import Layer, WorldTruth

__all__ = ["ConceptRecovery", "FoundConcept", "LayerRecovery", "recover_concepts"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_N_BEST = 8


class FoundConcept(NamedTuple):
    """A concept and the latents that tell it best.

    layer is its sort (entity, value, topic, ...); latents are up to eight, the best F1 on training
    documents (f1_train) first, and all figures are those of the first. The others are measured on
    held-out documents, where the concept is on at n_units units.
    """

    layer: str
    name: str
    latents: tuple[int, ...]
    auroc: float
    f1: float
    f1_train: float
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

    def by_layer(self, *, least: float = 0.9) -> dict[str, "LayerRecovery"]:
        """The same for each layer."""
        names = dict.fromkeys(concept.layer for concept in self.concepts)
        return {
            name: LayerRecovery.of([c for c in self.concepts if c.layer == name], least=least)
            for name in names
        }


class LayerRecovery(NamedTuple):
    """Concepts of one sort: how many have a latent, how many there are, and medians over all."""

    n_recovered: int
    n_concepts: int
    auroc: float
    f1: float

    @classmethod
    def of(cls, concepts: Sequence[FoundConcept], *, least: float) -> "LayerRecovery":
        """Count concepts of at least this AUROC."""
        aurocs = [concept.auroc for concept in concepts]
        return cls(
            sum(score >= least for score in aurocs),
            len(concepts),
            float(np.median(aurocs)),
            float(np.median([concept.f1 for concept in concepts])),
        )


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
        codes = encode_store(sae, store, Path(scratch))
        parts = list(codes.parts())
        with progress.task("recover", total=len(parts), unit="parts") as task:
            for first, last in parts:
                entries = codes.entries(first, last)
                for name, layer in truth.layers.items():
                    scored = _scored(entries, first, last, layer)
                    best[name] = scored.joined(best.get(name))
                task.advance()
        wanted = np.unique(np.concatenate([scored.latent[0] for scored in best.values()]))
        firing = _firing(codes, wanted)
    found: list[FoundConcept] = []
    for name, layer in truth.layers.items():
        asked = frequent(layer, min_train, min_held_out)
        found += _measured(name, layer, np.flatnonzero(asked), best[name], firing, wanted)
    n_all = sum(len(layer.names) for layer in truth.layers.values())
    return ConceptRecovery(tuple(found), n_all - len(found))


@dataclass(frozen=True)
class _Best:
    """The best latents of each label of a layer by F1 on training units, (n, n_labels)."""

    latent: Ints
    f1: npt.NDArray[np.float64]

    def joined(self, other: "_Best | None") -> "_Best":
        """The best of both."""
        if other is None:
            return self
        both = np.concatenate([other.latent, self.latent]), np.concatenate([other.f1, self.f1])
        return _Best(*both).best()

    def best(self) -> "_Best":
        """The first `_N_BEST` of each label, best first; equals stay in their order."""
        order = np.argsort(-self.f1, axis=0, kind="stable")[:_N_BEST]
        return _Best(
            np.take_along_axis(self.latent, order, axis=0),
            np.take_along_axis(self.f1, order, axis=0),
        )


def _scored(entries: Entries, first: int, last: int, layer: Layer) -> _Best:
    """The best of the latents `first` to `last - 1`, of which `entries` are."""
    pooled = pooled_by_unit(entries, entries.latent - first, layer)
    f1 = firing_f1(pooled, last - first, layer, ~layer.held_out)
    latent = np.broadcast_to(np.arange(first, last)[:, None], f1.shape)
    return _Best(latent, f1).best()


def _firing(codes: CodeLists, latents: Ints) -> Entries:
    """All entries of the (sorted) latents."""
    found = []
    for first, last in codes.parts():
        entries = codes.entries(first, last)
        kept = np.isin(entries.latent, latents)
        found.append(Entries(entries.latent[kept], entries.row[kept], entries.value[kept]))
    return Entries(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _measured(
    name: str, layer: Layer, labels: Ints, best: _Best, firing: Entries, latents: Ints
) -> list[FoundConcept]:
    """Each label's best latent on held-out units; `firing` holds all of `latents`, sorted."""
    pooled = pooled_by_unit(firing, np.searchsorted(latents, firing.latent), layer)
    f1 = firing_f1(pooled, len(latents), layer, layer.held_out)
    scores = auroc(
        pooled,
        n_latents=len(latents),
        label_of_doc=layer.label,
        n_labels=len(layer.names),
        docs=layer.held_out & layer.counted,
    )
    on = layer.held_out & layer.counted & (layer.label >= 0)
    counts = np.bincount(layer.label[on], minlength=len(layer.names))
    place = np.searchsorted(latents, best.latent[0])
    return [
        FoundConcept(
            layer=name,
            name=layer.names[i],
            latents=tuple(best.latent[:, i].tolist()),
            auroc=float(scores[place[i], i]),
            f1=float(f1[place[i], i]),
            f1_train=float(best.f1[0, i]),
            n_units=int(counts[i]),
        )
        for i in labels.tolist()
    ]
