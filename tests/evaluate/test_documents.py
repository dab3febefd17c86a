"""Batches of documents hold every document once, whole, and little padding."""

import numpy as np
import pytest

from saetools.corpus import Corpus, Document
from saetools.errors import ConfigError
from saetools.evaluate.documents import document_batches, store_texts
from saetools.models.base import TextEncoder
from saetools.store import ActivationStore


def test_every_document_comes_once_with_its_own_tokens(tiny_encoder: TextEncoder) -> None:
    rng = np.random.default_rng(0)
    texts = ["the dog ran " * int(n) for n in rng.integers(1, 12, size=30)]
    batches = document_batches(tiny_encoder, texts, ctx_len=None, batch_tokens=100)
    assert sorted(np.concatenate([b.places for b in batches])) == list(range(30))
    for batch in batches:
        assert batch.tokens.ids.numel() <= 100
        for row, place in enumerate(batch.places):
            alone = tiny_encoder.tokenize([texts[place]])
            kept = batch.tokens.ids[row][batch.tokens.mask[row]]
            assert kept.tolist() == alone.ids[0].tolist()
    padding = sum(int((~b.tokens.mask).sum()) for b in batches)
    assert padding < 0.2 * sum(b.tokens.ids.numel() for b in batches)


def test_a_document_longer_than_a_batch_still_comes(tiny_encoder: TextEncoder) -> None:
    (batch,) = document_batches(tiny_encoder, ["dog " * 60], ctx_len=50, batch_tokens=10)
    assert batch.tokens.ids.shape == (1, 50)


def test_texts_are_those_the_store_was_made_of(tiny_store: ActivationStore) -> None:
    documents = tuple(Document(f"text {i}") for i in range(tiny_store.n_docs + 3))
    corpus = Corpus(documents, "texts")
    with pytest.raises(ConfigError, match=corpus.fingerprint):
        store_texts(corpus, tiny_store)
    tiny_store.manifest["corpus"]["fingerprint"] = corpus.fingerprint
    texts = store_texts(corpus, tiny_store)
    assert texts == tuple(f"text {i}" for i in range(tiny_store.n_docs))
    assert store_texts([d.text for d in documents], tiny_store) == texts
    with pytest.raises(ConfigError, match="not the one"):
        store_texts([d.text.upper() for d in documents], tiny_store)
