"""The index of an SAE's latents: figures, examples, words and labels of each, in memory.

Self-contained: it holds the readable tokens and the documents' labels and titles, so a page or a
namer needs neither the store nor the model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Int64

from saetools.analysis.contexts import HELD_OUT, SPREAD, TOP, ContextTable
from saetools.analysis.index_file import read_index, write_index
from saetools.analysis.show import concepts_html
from saetools.analysis.tables import DocTable, LabelTable, LatentStats
from saetools.analysis.units import UnitTable
from saetools.errors import UnknownNameError, nearest

__all__ = ["ConceptHit", "Context", "LatentHit", "LatentIndex", "LatentView"]

ContextKind = Literal["top", "spread", "held_out"]
_KINDS: dict[ContextKind, int] = {"top": TOP, "spread": SPREAD, "held_out": HELD_OUT}


@dataclass(frozen=True)
class Context:
    """A stretch of a document around the token on which a latent fires most.

    Args:
        tokens: readable tokens; joined they are the text.
        acts: the latent's activation on each.
        peak: place of the strongest token of the document in `tokens`.
        doc: number of the document in the store.
        label: its label, None if it has none.
        title: its title, None if it has none.
    """

    tokens: list[str]
    acts: list[float]
    peak: int
    doc: int
    label: str | None
    title: str | None


@dataclass(frozen=True)
class LatentView:
    """One latent.

    Args:
        latent: its number.
        firing_rate: share of tokens on which it fires.
        max_act: its largest activation.
        examples: best training documents, strongest first, one context a document.
    """

    latent: int
    firing_rate: float
    max_act: float
    examples: list[Context]


@dataclass(frozen=True)
class ConceptHit:
    """The latent that tells a label best: chosen on training documents, tested on held-out ones.

    AUROC is the chance that a document of the label activates the latent more than one without it;
    0.5 is chance, 1 is perfect.
    """

    label: str
    latent: int
    auroc_train: float
    auroc_held_out: float
    n_docs_train: int
    n_docs_held_out: int


@dataclass(frozen=True)
class LatentHit:
    """A latent that a search found, with the share of its activation that speaks for it."""

    latent: int
    score: float
    reason: str


@dataclass(frozen=True, repr=False)
class LatentIndex:
    """What each latent of an SAE fires on. `index_latents` builds it.

    Args:
        hook_name: where the SAE reads.
        n_tokens: tokens that were encoded, held-out ones included.
        n_tokens_train: those of training documents.
        window: tokens shown on each side of a peak.
        source: config of the SAE and manifest of the store.
        stats, label_table, contexts, docs: the tables.
        token_texts: readable tokens that `contexts.token` numbers.
        units: words ("word"), words before ("previous") and pairs ("bigram") of each latent.
    """

    hook_name: str
    n_tokens: int
    n_tokens_train: int
    window: int
    source: Mapping[str, Any]
    stats: LatentStats
    label_table: LabelTable
    contexts: ContextTable
    docs: DocTable
    token_texts: list[str]
    units: Mapping[str, UnitTable]

    def save(self, path: str | Path) -> Path:
        """Write one HDF5 file; a reader of `path` sees the old file or the whole new one."""
        return write_index(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "LatentIndex":
        """Read what `save` wrote.

        Raises:
            FormatError: there is no such file, or it is no index of this format.
        """
        return cls(**read_index(Path(path)))

    @property
    def n_latents(self) -> int:
        """Size of the dictionary."""
        return len(self.stats.n_fired)

    @property
    def firing_rate(self) -> Float64[np.ndarray, " n_latents"]:
        """Share of all tokens on which each latent fires."""
        rate: npt.NDArray[np.float64] = self.stats.n_fired / max(self.n_tokens, 1)
        return rate

    @property
    def mean_act(self) -> Float32[np.ndarray, " n_latents"]:
        """Mean activation over the tokens on which a latent fires; 0 for a dead one."""
        mass = self.stats.mass_train + self.stats.mass_held_out
        mean: npt.NDArray[np.float32] = (mass / np.maximum(self.stats.n_fired, 1)).astype(
            np.float32
        )
        return mean

    @property
    def max_act(self) -> Float32[np.ndarray, " n_latents"]:
        """Largest activation of each latent; 0 for a dead one."""
        return self.stats.max_act

    @property
    def histogram(self) -> Int64[np.ndarray, "n_latents n_bins"]:
        """Active tokens of each latent in 20 bins of equal width from 0 to its max_act."""
        return self.stats.histogram

    @property
    def live(self) -> Int64[np.ndarray, " n_live"]:
        """Latents that fire at least once."""
        return np.flatnonzero(self.stats.n_fired)

    @property
    def labels(self) -> list[str]:
        """Labels with at least 8 documents in training and 8 held out: columns of the AUROCs."""
        return self.label_table.names

    @property
    def auroc_train(self) -> Float32[np.ndarray, "n_latents n_labels"]:
        """How well each latent tells each label from all other training documents."""
        return self.label_table.auroc_train

    @property
    def auroc_held_out(self) -> Float32[np.ndarray, "n_latents n_labels"]:
        """The same on held-out documents."""
        return self.label_table.auroc_held_out

    def __len__(self) -> int:
        return self.n_latents

    def __iter__(self) -> Iterator[LatentView]:
        return (self[latent] for latent in range(self.n_latents))

    def __getitem__(self, latent: int) -> LatentView:
        """One latent with its best training examples.

        Raises:
            UnknownNameError: there is no such latent.
        """
        latent = self._known(latent)
        return LatentView(
            latent,
            float(self.firing_rate[latent]),
            float(self.max_act[latent]),
            self.examples(latent),
        )

    def examples(self, latent: int, *, kind: ContextKind = "top") -> list[Context]:
        """Contexts of one latent, strongest first.

        Args:
            latent: its number.
            kind: "top" best training documents, "spread" drawn over its weaker training documents,
                "held_out" drawn over all held-out documents; a namer must not look at the last.
        """
        latent = self._known(latent)
        part = range(int(self._bounds[latent]), int(self._bounds[latent + 1]))
        wanted = _KINDS[kind]
        return [self._context(i) for i in part if self.contexts.kind[i] == wanted]

    def best_latents(self, label: str, *, top: int = 10) -> Int64[np.ndarray, " m"]:
        """Latents that tell a label best on training documents, best first, live ones only.

        Raises:
            UnknownNameError: the index has no such label.
        """
        if label not in self.labels:
            near = nearest(label, self.labels)
            found = f"nearest: {', '.join(near)}" if near else "no label has 8 + 8 documents"
            raise UnknownNameError(
                f"the index has no label '{label}' with at least 8 training and 8 held-out "
                f"documents; {found}"
            )
        scores = self.auroc_train[self.live, self.labels.index(label)]
        return self.live[np.argsort(-scores, kind="stable")[:top]]

    def concepts(self, top: int = 10, *, per_label: int = 1) -> list[ConceptHit]:
        """The best latents of each label, the one that tells its label best first.

        Both the latents and the order are chosen on training documents; the held-out figure is
        what to believe.

        Args:
            top: hits returned, over all labels.
            per_label: latents considered of each label.
        """
        hits: list[ConceptHit] = []
        for column, label in enumerate(self.labels):
            best = self.best_latents(label, top=per_label).tolist()
            found = (self._hit(latent, column) for latent in best)
            hits.extend(hit for hit in found if np.isfinite(hit.auroc_train))  # nan: all have it
        return sorted(hits, key=lambda hit: (-hit.auroc_train, hit.label, hit.latent))[:top]

    def search(self, text: str, *, top: int = 10) -> list[LatentHit]:
        """Latents whose activation falls on the words of `text`, or that tell it as a label.

        A word scores the share of a latent's training activation on it; several words add up. A
        label scores 2 · AUROC - 1 on training documents.
        """
        wanted = text.casefold().split()
        table = self.units["word"]
        known = [u for u, spelled in enumerate(table.strings) if spelled.casefold() in wanted]
        hit = np.isin(table.unit, known)
        latent = np.repeat(np.arange(self.n_latents), np.diff(table.bounds))
        mass = np.bincount(latent[hit], weights=table.mass_train[hit], minlength=self.n_latents)
        score = mass / np.maximum(self.stats.mass_train, 1e-12)
        reason = np.where(score > 0, f"fires on '{text}'", "").astype(object)
        for column, label in enumerate(self.labels):
            if label.casefold() in (text.casefold(), *wanted):
                told = 2 * self.auroc_train[:, column].astype(np.float64) - 1
                reason[told > score] = f"tells the label '{label}'"
                score = np.maximum(score, told)
        order = np.argsort(-score, kind="stable")[:top]
        return [LatentHit(int(i), float(score[i]), str(reason[i])) for i in order if score[i] > 0]

    def __repr__(self) -> str:
        return (
            f"LatentIndex({self.n_latents:,} latents, {len(self.live):,} live, "
            f"{self.n_tokens:,} tokens at {self.hook_name}, {len(self.labels)} labels)"
        )

    def _repr_html_(self) -> str:
        return concepts_html(repr(self), self.concepts(), self.examples)

    @cached_property
    def _bounds(self) -> npt.NDArray[np.int64]:
        """Contexts of latent j are _bounds[j] to _bounds[j + 1]."""
        return np.searchsorted(self.contexts.latent, np.arange(self.n_latents + 1))

    def _known(self, latent: int) -> int:
        if not 0 <= latent < self.n_latents:
            raise UnknownNameError(
                f"there is no latent {latent}; this SAE has the latents 0 to {self.n_latents - 1}"
            )
        return int(latent)

    def _hit(self, latent: int, column: int) -> ConceptHit:
        return ConceptHit(
            self.labels[column],
            latent,
            float(self.auroc_train[latent, column]),
            float(self.auroc_held_out[latent, column]),
            int(self.label_table.n_docs_train[column]),
            int(self.label_table.n_docs_held_out[column]),
        )

    def _context(self, i: int) -> Context:
        token = self.contexts.token[i]
        inside = token >= 0
        doc = int(self.contexts.doc[i])
        return Context(
            tokens=[self.token_texts[t] for t in token[inside]],
            acts=self.contexts.act[i][inside].tolist(),
            peak=int(self.contexts.peak[i]),
            doc=doc,
            label=self.docs.label[doc],
            title=self.docs.title[doc],
        )
