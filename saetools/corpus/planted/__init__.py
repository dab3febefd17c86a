"""Texts of a planted world, in which the truth is known: pure text, no model and no tensor.

The language models that were trained on it, and how, are in `saetools.testbed`; the corpus source
`planted_world` reads it into any command.
"""

from saetools.corpus.planted.everyday import REGISTERS, SENTIMENTS, TOPICS
from saetools.corpus.planted.forms import DIRECT_FORMS, FORMS, TWO_HOP, Fact
from saetools.corpus.planted.hierarchy import TREES, levels_of
from saetools.corpus.planted.kinds import KINDS
from saetools.corpus.planted.spans import Label, LabelledText, Span, token_labels
from saetools.corpus.planted.world import Entity, World

__all__ = [
    "DIRECT_FORMS",
    "FORMS",
    "KINDS",
    "REGISTERS",
    "SENTIMENTS",
    "TOPICS",
    "TREES",
    "TWO_HOP",
    "Entity",
    "Fact",
    "Label",
    "LabelledText",
    "Span",
    "World",
    "levels_of",
    "token_labels",
]
