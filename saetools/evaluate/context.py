"""What a metric may look at: the SAE, the split of the store, and, where given, model and texts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.corpus import ConceptLabels, LabelledTexts, Question
from saetools.errors import ConfigError, HookNotFoundError, ShapeError
from saetools.evaluate.concepts.choose import Chosen, choose_texts
from saetools.evaluate.concepts.pooled import PooledTexts, TokenRows, pool_batches, pool_texts
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.store import ActivationStore, StoreBatch
from saetools.types import SparseLatents

__all__ = ["EncodedBatch", "MetricContext", "Split", "store_hook", "written_hook"]

Split = Literal["held_out", "train", "all"]

_MEMO_BYTES = 256 * 2**20
_BATCH_TOKENS = 4096


class EncodedBatch(NamedTuple):
    """Consecutive tokens: what is read and what is to be reconstructed of each, and where it is.

    Args:
        x: activations that the SAE reads.
        target: those that it reconstructs: x, but for a transcoder.
        latents: of x.
        doc: document of each token.
        row: row in the store of each.
    """

    x: Float[Tensor, "n d_in"]
    target: Float[Tensor, "n d_out"]
    latents: SparseLatents
    doc: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]


@dataclass(frozen=True)
class MetricContext:
    """What a metric may look at.

    Args:
        sae: the SAE to measure.
        store: activations to measure it on.
        hook_name: the hook of the store, and of the model, that the SAE reads.
        model: subject model, None if only the store is at hand.
        texts: text of each document of the store, None without a corpus.
        split: which documents to measure on.
        n_docs: how many of them metrics that run the model use; None: all. Labelled texts have a
            limit of their own.
        seed: of every random choice.
        labelled: texts with concepts; none: the documents of the split with the corpus' labels.
        pairs: pairs of concepts that scr is asked for; none: it picks one.
        twins: SAEs of other seeds on the same store.
        concepts: which concepts are on at each row of the store, where that is known.
        questions: facts that the model may know, where they are given.
    """

    sae: SAE
    store: ActivationStore
    hook_name: str
    model: SubjectModel | None = None
    texts: tuple[str | tuple[int, ...], ...] | None = None
    split: Split = "held_out"
    n_docs: int | None = None
    seed: int = 0
    labelled: tuple[LabelledTexts, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    twins: tuple[SAE, ...] = ()
    concepts: ConceptLabels | None = None
    questions: tuple[Question, ...] = ()
    _memo: dict[int, SparseLatents] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def docs(self) -> npt.NDArray[np.int64]:
        """Indices of the split's documents that have tokens in the store."""
        spans = np.asarray(self.store.doc_spans)
        wanted = spans[:, 1] > spans[:, 0]
        if self.split != "all":
            wanted &= np.asarray(self.store.held_out) == (self.split == "held_out")
        found: npt.NDArray[np.int64] = np.flatnonzero(wanted).astype(np.int64)
        if len(found) == 0:
            raise ConfigError(
                f"no document of {self.store.path} is in the split '{self.split}' "
                f"({self.store.n_docs} documents in all); harvest with held_out_fraction above 0, "
                "or evaluate on another split"
            )
        return found

    @cached_property
    def model_docs(self) -> npt.NDArray[np.int64]:
        """Documents for metrics that run the model: at most `n_docs`, drawn with the seed."""
        docs = self.docs
        if self.n_docs is None or self.n_docs >= len(docs):
            return docs
        rng = np.random.default_rng([self.seed, 0xD0C5])
        return np.sort(rng.choice(docs, size=self.n_docs, replace=False))

    @property
    def ctx_len(self) -> int | None:
        """Tokens of a document that the store has read, specials included."""
        found = self.store.manifest.get("ctx_len")
        return None if found is None else int(found)

    @property
    def written(self) -> str:
        """The hook whose activation the SAE reconstructs: `hook_name`, but for a transcoder."""
        return written_hook(self.sae, self.store, reads=self.hook_name)

    @property
    def transcodes(self) -> bool:
        """Whether the SAE reconstructs another activation than it reads."""
        return self.written != self.hook_name

    @cached_property
    def mean(self) -> Float[Tensor, " d_out"]:
        """Mean of what is reconstructed over the whole store, the stand-in of mean ablation."""
        moments = self.store.moments(self.written)
        return torch.as_tensor(moments.mean, dtype=torch.float32)

    @cached_property
    def chosen(self) -> tuple[Chosen, ...]:
        """Concepts of each data set of labelled texts, and the texts that they are measured on.

        Raises:
            ConfigError: a pair of concepts that was asked for is in no data set.
        """
        sets = self.labelled or (_of_store(self.store, self.docs),)
        asked = {pair for pair in self.pairs for s in sets if set(pair) <= set(s.counts)}
        for first, second in self.pairs:
            if (first, second) not in asked:
                known = "; ".join(f"{s.name}: {', '.join(s.counts)}" for s in sets)
                raise ConfigError(
                    f"the concepts {first}, {second} were asked for, and no data set has both; "
                    f"there are {known}"
                )
        return tuple(
            choose_texts(
                texts,
                pairs=[pair for pair in self.pairs if set(pair) <= set(texts.counts)],
                seed=self.seed,
            )
            for texts in sets
        )

    @cached_property
    def pooled(self) -> tuple[PooledTexts, ...]:
        """Activations and latents of the chosen texts, pooled; made once for all metrics.

        Labelled texts go through the model; documents of the store are read from it.
        """
        if not self.labelled:
            (chosen,) = self.chosen
            place = np.full(self.store.n_docs, -1)
            place[self.docs[chosen.texts]] = np.arange(len(chosen.texts))
            return (
                pool_batches(self._rows_of(place), chosen, n_latents=self.sae.config.n_latents),
            )
        assert self.model is not None
        return tuple(
            pool_texts(
                self.model,
                self.sae,
                texts.texts,
                chosen,
                hook_name=self.hook_name,
                ctx_len=self.ctx_len,
            )
            for texts, chosen in zip(self.labelled, self.chosen, strict=True)
        )

    def batches(self) -> Iterator[EncodedBatch]:
        """The split's tokens in file order, encoded; without gradient, on the SAE's device.

        Latents are kept from one pass to the next while they fit in a quarter of a gibibyte, so
        several metrics cost one encoding.
        """
        targets = (batch.x for batch in self._stream(self.written)) if self.transcodes else None
        for number, batch in enumerate(self._stream(self.hook_name)):
            x = batch.x.to(self.sae.device)
            target = x if targets is None else next(targets).to(self.sae.device)
            with torch.no_grad():
                latents = self._latents(number, x)
            yield EncodedBatch(x, target, latents, np.asarray(batch.doc, dtype=np.int64), batch.row)

    def _stream(self, hook_name: str) -> Iterator[StoreBatch]:
        return self.store.stream(split=self.split, batch_tokens=_BATCH_TOKENS, hook_name=hook_name)

    def _rows_of(self, place: npt.NDArray[np.int64]) -> Iterator[TokenRows]:
        """Tokens of the documents that have a place, numbered by it."""
        for batch in self.batches():
            kept = np.flatnonzero(place[batch.doc] >= 0)
            if len(kept):
                at = torch.as_tensor(kept, device=batch.x.device)
                values, indices = batch.latents.values[at], batch.latents.indices[at]
                latents = SparseLatents(values, indices, batch.latents.n_latents)
                yield batch.x[at], latents, place[batch.doc[kept]]

    def _latents(self, number: int, x: Tensor) -> SparseLatents:
        if number in self._memo:
            return self._memo[number]
        latents = self.sae.encode(x)
        size = latents.values.numel() * 12 * (len(self._memo) + 1)
        if size <= _MEMO_BYTES:
            self._memo[number] = latents
        return latents


def _of_store(store: ActivationStore, docs: npt.NDArray[np.int64]) -> LabelledTexts:
    """The documents of a store as labelled texts, their words left out."""
    labels = store.labels
    return LabelledTexts(
        texts=("",) * len(docs),
        labels=tuple(frozenset(filter(None, [labels[doc]])) for doc in docs),
        name=str(store.manifest.get("corpus", {}).get("name", "corpus")),
    )


def store_hook(sae: SAE, store: ActivationStore) -> str:
    """The hook of the store that the SAE reads.

    Raises:
        ConfigError: the store does not have it, or the SAE names none and the store has several.
        ShapeError: it has another width.
    """
    wanted = sae.meta.get("hook_name")
    if wanted is None and len(store.hook_names) == 1:
        wanted = store.hook_name
    if wanted not in store.hook_names:
        raise ConfigError(
            f"the SAE reads {wanted or 'an unknown hook'}, but {store.path} holds "
            f"{', '.join(store.hook_names)}; harvest that hook, or use the SAE's own store"
        )
    _check_width(store, "reads", sae.config.d_in, str(wanted))
    return str(wanted)


def written_hook(sae: SAE, store: ActivationStore, *, reads: str) -> str:
    """The hook of the store whose activation the SAE reconstructs.

    Args:
        reads: the hook that it reads, which it also writes unless it is a transcoder.

    Raises:
        ConfigError: it does not say which hook it writes, or the store does not have it.
        ShapeError: it has another width.
    """
    asked = sae.target_hook_name
    if asked is None and sae.d_out == sae.config.d_in:
        return reads
    if asked is None:
        raise ConfigError(
            f"this {sae.config.type} writes activations of width {sae.d_out} and does not say of "
            "which hook; set target_hook_name in its config"
        )
    try:
        found = store.find_hook(asked)
    except HookNotFoundError as error:
        raise ConfigError(
            f"this {sae.config.type} writes {asked}, but {store.path} holds "
            f"{', '.join(store.hook_names)}; harvest both hooks, or use the SAE's own store"
        ) from error
    _check_width(store, "writes", sae.d_out, found)
    return found


def _check_width(
    store: ActivationStore, verb: Literal["reads", "writes"], width: int, hook_name: str
) -> None:
    has = store.width(hook_name)
    if has != width:
        raise ShapeError(
            f"the SAE {verb} activations of width {width}, but {hook_name} in {store.path} "
            f"has width {has}; use the store that the SAE was trained on"
        )
