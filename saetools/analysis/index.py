"""The index of an SAE's latents: figures, examples, words and labels of each, in memory.

Self-contained: it holds the readable tokens and the documents' labels and titles, so a page or a
namer needs neither the store nor the model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Int8, Int64

from saetools.analysis.contexts import HELD_OUT, SPREAD, TOP, ContextTable
from saetools.analysis.index_file import read_index, write_index
from saetools.analysis.logit_lens import LogitTable
from saetools.analysis.neighbours import Neighbours
from saetools.analysis.postings import CodedLists, DocTokens, Lists, Postings, decode
from saetools.analysis.prompt import PromptReading, read_prompt
from saetools.analysis.show import concepts_html
from saetools.analysis.tables import DocTable, LabelTable, LatentStats
from saetools.analysis.units import UnitTable
from saetools.analysis.views import ConceptHit, Context, LatentHit, LatentView
from saetools.errors import UnknownNameError, nearest
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["LatentIndex"]

ContextKind = Literal["top", "spread", "held_out"]
_KINDS: dict[ContextKind, int] = {"top": TOP, "spread": SPREAD, "held_out": HELD_OUT}


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
        units: words ("word"), words before ("previous"), pairs ("bigram") and words after ("next")
            of each latent.
        decoder_neighbours: live latents by the cosine of their decoder rows.
        coactivation: live latents that fire on the same training tokens, by the correlation phi.
        level: of a Matryoshka SAE, which width a latent belongs to, 0 the narrowest; else 0.
        lists: every activation, coded; `postings` reads them.
        doc_tokens: the tokens of every document.
        widths: prefix sizes of a Matryoshka SAE, else empty.
        parents: of a Matryoshka SAE, latents of narrower levels that fire on at least half of a
            latent's training tokens, by that share, and at least twice as often as elsewhere.
        children: the same seen from the parent: latents of wider levels, by the share of their own
            tokens.
        logits: next tokens that each latent speaks for and against; language models only.
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
    decoder_neighbours: Neighbours
    coactivation: Neighbours
    level: Int8[np.ndarray, " n_latents"]
    lists: Lists
    doc_tokens: DocTokens
    widths: list[int] = field(default_factory=list)
    parents: Neighbours | None = None
    children: Neighbours | None = None
    logits: LogitTable | None = None

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

    def in_memory(self) -> "LatentIndex":
        """The same index, which no longer reads from its file."""
        lists = CodedLists(self.lists.bounds, *self.lists.read(0, int(self.lists.bounds[-1])))
        return replace(self, lists=lists, units=dict(self.units))

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

    def postings(self, latent: int) -> Postings:
        """Every activation of a latent, by document and place in it, in the order of the corpus.

        Values are off by at most 1/2048 of themselves (float16 on disk). Held-out documents are
        among them: `docs.held_out` tells.
        """
        latent = self._known(latent)
        start, stop = int(self.lists.bounds[latent]), int(self.lists.bounds[latent + 1])
        row, value = decode(self.lists.read(start, stop), largest=float(self.stats.max_act[latent]))
        doc = np.searchsorted(self.doc_tokens.bounds, row, side="right") - 1
        pos = row - self.doc_tokens.bounds[doc]
        return Postings(doc.astype(np.int32), pos.astype(np.int32), value)

    def tokens_of(self, doc: int) -> list[str]:
        """Readable tokens of a document; joined they are its text.

        Raises:
            UnknownNameError: there is no such document.
        """
        return [self.token_texts[token] for token in self.doc_tokens.of(self._known_doc(doc))]

    def context_at(self, latent: int, doc: int, pos: int, *, window: int | None = None) -> Context:
        """The tokens around any place of any document, with a latent's activations there.

        Args:
            latent: its number.
            doc: number of the document.
            pos: place among its tokens, from 0.
            window: tokens on each side; as in the examples by default.
        """
        tokens, found = self.tokens_of(doc), self.postings(latent)
        if not 0 <= pos < len(tokens):
            raise UnknownNameError(
                f"there is no place {pos} in document {doc}; it has {len(tokens)} tokens"
            )
        width = self.window if window is None else window
        start, stop = max(pos - width, 0), min(pos + width + 1, len(tokens))
        inside = (found.doc == doc) & (found.pos >= start) & (found.pos < stop)
        acts = np.zeros(stop - start, dtype=np.float32)
        acts[found.pos[inside] - start] = found.value[inside]
        return Context(
            tokens=tokens[start:stop],
            acts=acts.tolist(),
            peak=pos - start,
            doc=doc,
            label=self.docs.label[doc],
            title=self.docs.title[doc],
        )

    def fires_on(self, model: SubjectModel, sae: SAE, text: str) -> PromptReading:
        """Which latents fire on a text, and on which of its tokens.

        Raises:
            ShapeError: the SAE or the model is not of this index.
        """
        return read_prompt(model, sae, text, hook_name=self.hook_name)

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

    def on_word(self, word: str, *, unit: str = "word", top: int = 10) -> list[LatentHit]:
        """Latents that spend their training activation on one word, the largest share first.

        Args:
            word: in any case. A pair is spelled with a space between.
            unit: "word" for latents that fire on it, "previous" for those that fire right after it,
                "next" for those that fire right before it, "bigram" for pairs.
            top: latents returned.

        Raises:
            UnknownNameError: there is no such kind of unit.
        """
        if unit not in self.units:
            raise UnknownNameError(
                f"there are no units '{unit}' in the index; it has {', '.join(self.units)}"
            )
        share = self._share_on([word], unit)
        said = {"previous": "fires after", "next": "fires before"}.get(unit, "fires on")
        return _hits(share, [f"{said} '{word}'"] * self.n_latents, top)

    def search(self, text: str, *, top: int = 10) -> list[LatentHit]:
        """Latents whose activation falls on the words of `text`, or that tell it as a label.

        A word scores the share of a latent's training activation on it; several words add up. A
        label scores 2 · AUROC - 1 on training documents. Names are searched by
        `saetools.naming.NameSearch`.
        """
        wanted = text.casefold().split()
        score = self._share_on(wanted, "word")
        reason = np.where(score > 0, f"fires on '{text}'", "").astype(object)
        for column, label in enumerate(self.labels):
            if label.casefold() in (text.casefold(), *wanted):
                told = 2 * self.auroc_train[:, column].astype(np.float64) - 1
                reason[told > score] = f"tells the label '{label}'"
                score = np.maximum(score, told)
        return _hits(score, reason.tolist(), top)

    def __repr__(self) -> str:
        return (
            f"LatentIndex({self.n_latents:,} latents, {len(self.live):,} live, "
            f"{self.n_tokens:,} tokens at {self.hook_name}, {len(self.labels)} labels)"
        )

    def _repr_html_(self) -> str:
        return concepts_html(repr(self), self.concepts(), self.examples)

    def _share_on(self, words: list[str], unit: str) -> npt.NDArray[np.float64]:
        """Share of each latent's training activation on some words."""
        table, folded = self.units[unit], {word.casefold() for word in words}
        if unit not in self._folded:
            self._folded[unit] = [text.casefold() for text in table.strings]
        wanted = np.array([text in folded for text in self._folded[unit]], dtype=bool)
        hit = np.flatnonzero(wanted[table.unit]) if len(wanted) else np.zeros(0, dtype=np.int64)
        latent = np.searchsorted(table.bounds, hit, side="right") - 1
        mass = np.bincount(latent, weights=table.mass_train[hit], minlength=self.n_latents)
        share: npt.NDArray[np.float64] = mass / np.maximum(self.stats.mass_train, 1e-12)
        return share

    @cached_property
    def _folded(self) -> dict[str, list[str]]:
        """Units as they are compared, by kind; filled when a kind is first searched."""
        return {}

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

    def _known_doc(self, doc: int) -> int:
        if not 0 <= doc < len(self.docs.held_out):
            raise UnknownNameError(
                f"there is no document {doc}; the index has {len(self.docs.held_out)}, from 0"
            )
        return int(doc)

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


def _hits(score: npt.NDArray[np.float64], reasons: list[str], top: int) -> list[LatentHit]:
    """The best positive scores; of equal ones the lower number first."""
    order = np.argsort(-score, kind="stable")[:top].tolist()
    return [LatentHit(i, float(score[i]), str(reasons[i])) for i in order if score[i] > 0]
