"""Documents as batches of tokens of similar length, so that little is computed on padding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from saetools.corpus import Corpus, Document, for_model
from saetools.errors import ConfigError
from saetools.models.base import SubjectModel, TokenBatch
from saetools.store import ActivationStore

__all__ = ["DocumentBatch", "Tokenizes", "document_batches", "store_texts"]


class Tokenizes(Protocol):
    """Anything that makes token batches of texts, as every subject model does."""

    def tokenize(
        self, texts: Sequence[str | Sequence[int]], *, ctx_len: int | None = None
    ) -> TokenBatch:
        """Tokenize texts, or complete token ids, right-padded."""


@dataclass(frozen=True)
class DocumentBatch:
    """Tokens of several documents.

    Args:
        places: position of each document in the list that was asked for, (batch,).
        tokens: their tokens, (batch, pos).
    """

    places: npt.NDArray[np.int64]
    tokens: TokenBatch


def document_batches(
    model: Tokenizes,
    texts: Sequence[str | Sequence[int]],
    *,
    ctx_len: int | None,
    batch_tokens: int,
) -> list[DocumentBatch]:
    """Tokenize `texts` and batch them by length, shortest first.

    Args:
        ctx_len: longest document in tokens, specials included; the rest is cut off.
        batch_tokens: size of a batch, padding included; a single longer document still fits.
    """
    whole = model.tokenize(list(texts), ctx_len=ctx_len)
    lengths = whole.mask.sum(1).cpu().numpy()
    order = np.argsort(lengths, kind="stable")
    batches: list[DocumentBatch] = []
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= batch_tokens:
            stop += 1
        places = order[start:stop].astype(np.int64)
        batches.append(DocumentBatch(places, _cut(whole, places, int(lengths[places[-1]]))))
        start = stop
    return batches


def store_texts(
    corpus: Corpus | Iterable[str | Document],
    store: ActivationStore,
    *,
    model: SubjectModel | None = None,
) -> tuple[str | tuple[int, ...], ...]:
    """Text (or token ids) of each document of the store, checked to be those of its corpus.

    Args:
        model: renders chats and checks token ids; without it the corpus has to hold plain texts.

    Raises:
        ConfigError: the corpus is not the one that the store was harvested from.
    """
    if not isinstance(corpus, Corpus):
        documents = tuple(Document(d) if isinstance(d, str) else d for d in corpus)
        corpus = Corpus(documents, "texts")
    if model is not None:
        corpus = for_model(corpus, model)
    wanted = store.manifest.get("corpus", {}).get("fingerprint")
    if len(corpus) < store.n_docs or wanted not in (None, corpus.fingerprint):
        raise ConfigError(
            f"the corpus is not the one that {store.path} was harvested from: {len(corpus)} "
            f"documents with fingerprint {corpus.fingerprint}, but the store has {store.n_docs} "
            f"with fingerprint {wanted}; load the corpus with the settings of the harvest"
        )
    return tuple(document.content for document in corpus[: store.n_docs])


def _cut(whole: TokenBatch, places: npt.NDArray[np.int64], length: int) -> TokenBatch:
    rows = torch.as_tensor(places, device=whole.ids.device)
    return TokenBatch(
        whole.ids[rows, :length], whole.mask[rows, :length], whole.special[rows, :length]
    )
