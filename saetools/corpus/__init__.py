"""Texts to read a model on: documents with labels, from the standard library, files or the hub."""

from saetools.corpus.base import (
    CORPORA,
    Corpus,
    CorpusConfig,
    CorpusSource,
    Document,
    Message,
    load_corpus,
)
from saetools.corpus.concepts import ConceptLabels, ConceptSpan, Family
from saetools.corpus.fit import check_tokens, for_model, render_chats
from saetools.corpus.labelled import LabelledTexts, load_labelled
from saetools.corpus.questions import Question, load_questions, save_questions
from saetools.corpus.ravel import load_ravel
from saetools.corpus.split import held_out

__all__ = [
    "CORPORA",
    "ConceptLabels",
    "ConceptSpan",
    "Corpus",
    "CorpusConfig",
    "CorpusSource",
    "Document",
    "Family",
    "LabelledTexts",
    "Message",
    "Question",
    "check_tokens",
    "for_model",
    "held_out",
    "load_corpus",
    "load_labelled",
    "load_questions",
    "load_ravel",
    "render_chats",
    "save_questions",
]
