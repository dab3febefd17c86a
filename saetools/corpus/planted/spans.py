"""Texts whose labels are known to the character, and what they mean for a tokenizer's tokens.

A label is a pair of layer and name, such as ("topic", "weather"); a span is a label with the
characters that it holds for. Layers of the planted world: `entity`, `kind`, `attribute`, `value`,
`fact`, `form`, `concept`, and in every sentence `topic`, `sentiment`, `register`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from saetools.corpus.base import Document

__all__ = ["Label", "LabelledText", "Sentence", "Span", "fill", "joined", "token_labels"]

_SLOT = re.compile(r"\{(\w+)\}")

Slots = Mapping[str, tuple[str, tuple["Label", ...]]]


class Label(NamedTuple):
    """What holds of some characters."""

    layer: str
    name: str


class Span(NamedTuple):
    """A label and the characters it holds for: text[start:end]."""

    start: int
    end: int
    layer: str
    name: str


class Sentence(NamedTuple):
    """A sentence with the spans of its characters."""

    text: str
    spans: tuple[Span, ...]

    def after(self, prefix: str) -> "Sentence":
        """The same sentence behind other words, which share the labels of the whole."""
        n = len(prefix)
        whole = len(self.text)
        moved = (
            Span(0 if (start, end) == (0, whole) else start + n, end + n, layer, name)
            for start, end, layer, name in self.spans
        )
        return Sentence(prefix + self.text, tuple(moved))

    def with_labels(self, labels: Iterable[Label]) -> "Sentence":
        """The same sentence with more labels of the whole of it."""
        return Sentence(
            self.text, self.spans + tuple(Span(0, len(self.text), *label) for label in labels)
        )


@dataclass(frozen=True)
class LabelledText:
    """A text of several sentences, and its spans in order of start.

    Args:
        text: what is read.
        spans: the labels of its characters.
        topic, sentiment, register: what holds of the text as a whole.
        title: what it is about: names of entities, or "everyday".
    """

    text: str
    spans: tuple[Span, ...]
    topic: str
    sentiment: str
    register: str
    title: str

    def layer(self, name: str) -> tuple[Span, ...]:
        """The spans of one layer."""
        return tuple(span for span in self.spans if span.layer == name)

    def document(self, label: str = "topic") -> Document:
        """The text as a document of a corpus, labelled by topic, sentiment or register."""
        return Document(self.text, label=str(getattr(self, label)), title=self.title)


def fill(template: str, slots: Slots, labels: Sequence[Label] = ()) -> Sentence:
    """Put words in the {slots} of a template; each word brings its labels, `labels` hold of all."""
    text, spans, last = "", [], 0
    for slot in _SLOT.finditer(template):
        word, of_word = slots[slot.group(1)]
        text += template[last : slot.start()]
        spans += [Span(len(text), len(text) + len(word), *label) for label in of_word]
        text += word
        last = slot.end()
    text += template[last:]
    whole = tuple(Span(0, len(text), *label) for label in labels)
    return Sentence(text, whole + tuple(spans))


def joined(sentences: Iterable[Sentence]) -> Sentence:
    """Sentences one after the other, with a space between them."""
    text, spans = "", []
    for sentence in sentences:
        start = len(text) + 1 if text else 0
        text = f"{text} {sentence.text}" if text else sentence.text
        spans += [
            Span(first + start, last + start, layer, name)
            for first, last, layer, name in sentence.spans
        ]
    return Sentence(text, tuple(sorted(spans)))


def token_labels(text: LabelledText, tokenizer: Any) -> tuple[tuple[Label, ...], ...]:
    """The labels of each token, in the tokenizer's own cut of the text without special tokens.

    A token has a label if it shares a character with its span; the space that a token begins with
    counts for nothing. The subject model puts BOS before these tokens.

    Args:
        text: the labelled text.
        tokenizer: a fast tokenizer of transformers (it must give offsets).

    Returns:
        One tuple of labels a token; `dict(labels)["topic"]` is a token's topic.
    """
    cut = tokenizer(text.text, add_special_tokens=False, return_offsets_mapping=True)
    found = []
    for start, end in cut["offset_mapping"]:
        first = start
        while first < end and text.text[first].isspace():
            first += 1
        found.append(
            tuple(
                Label(span.layer, span.name)
                for span in text.spans
                if span.start < end and first < span.end
            )
        )
    return tuple(found)
