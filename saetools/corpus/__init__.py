"""Texts to read a model on: documents with labels, from the standard library, files or the hub."""

from saetools.corpus.base import (
    CORPORA,
    Corpus,
    CorpusConfig,
    CorpusSource,
    Document,
    load_corpus,
)
from saetools.corpus.split import held_out

__all__ = [
    "CORPORA",
    "Corpus",
    "CorpusConfig",
    "CorpusSource",
    "Document",
    "held_out",
    "load_corpus",
]
