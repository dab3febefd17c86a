"""What is true of each row of a store that was harvested from texts of the planted world.

A label holds for units: words at tokens (those of several tokens, as most names, at their last one,
where a model has read all of it; their other tokens count neither way), attributes and forms of
sentences that state a fact, topic, sentiment and register of documents.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.corpus import ConceptLabels
from saetools.corpus.planted import LabelledText, levels_of
from saetools.errors import ConfigError
from saetools.store import ActivationStore

__all__ = ["LAYERS", "Layer", "WorldTruth", "world_truth"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEVELS = ("root", "branch", "leaf")
LAYERS = ("entity", "kind", "value", *LEVELS, "attribute", "form", "topic", "sentiment", "register")
"""Sorts of labels of which at most one of each holds at a token."""

_WORDS = ("entity", "kind", "value", *LEVELS)
_SENTENCES = ("attribute", "form")


@dataclass(frozen=True)
class Layer:
    """One sort of label, and the units that it holds for.

    Args:
        names: of the labels.
        label: index of the label of each unit, -1 for none, shape (n_units,).
        counted: False at units that count neither way, shape (n_units,).
        held_out: True at units of documents that training does not see, shape (n_units,).
        unit_of_row: unit of each row, -1 for none, shape (n_rows,), never falling but for those;
            None where rows are the units.
    """

    names: tuple[str, ...]
    label: Ints
    counted: Bools
    held_out: Bools
    unit_of_row: npt.NDArray[np.int32] | None = None


@dataclass(frozen=True)
class WorldTruth:
    """The labels of every row of a store.

    Args:
        layers: by name, those of LAYERS that occur.
    """

    layers: Mapping[str, Layer]

    def only(self, *names: str) -> "WorldTruth":
        """The same rows with some of the layers."""
        return WorldTruth({name: self.layers[name] for name in names})

    def hierarchy(self) -> ConceptLabels:
        """The levels of things (animal, bird, owl) as concepts that are on at rows, with parents.

        A parent is on wherever the word of one of its children stands.
        """
        layers = {level: self.layers[level] for level in LEVELS}
        names = tuple(name for layer in layers.values() for name in layer.names)
        on = np.concatenate(
            [layer.label[:, None] == np.arange(len(layer.names)) for layer in layers.values()],
            axis=1,
        )
        parents = {name: levels_of(name)[-2] for name in names if len(levels_of(name)) > 1}
        return ConceptLabels(names, on, parents)


def world_truth(
    store: ActivationStore, texts: Sequence[LabelledText], tokenizer: Any
) -> WorldTruth:
    """The labels of every row of `store`.

    Args:
        store: harvested from `texts`, one document each, in their order.
        texts: as `World.documents` gives them; more than the store has read may be given.
        tokenizer: that of the store's model; a fast one, which gives offsets.

    Raises:
        ConfigError: the tokens of the store are not those of the texts.
    """
    spans = np.asarray(store.doc_spans)
    if len(texts) < len(spans):
        raise ConfigError(
            f"{store.path} has {len(spans):,} documents and {len(texts):,} texts were given; write "
            "as many documents of the same world with the same seed"
        )
    held = np.repeat(np.asarray(store.held_out)[: len(spans)], spans[:, 1] - spans[:, 0])
    words = {name: _Words(store.n_tokens, held) for name in _WORDS}
    spreads = {name: _Spreads(store.n_tokens) for name in LAYERS if name not in _WORDS}
    ids = np.concatenate([np.zeros(0, np.int32), *(batch.token_ids for batch in store.stream())])
    for doc, (start, stop) in enumerate(spans):
        cut = tokenizer(texts[doc].text, add_special_tokens=False, return_offsets_mapping=True)
        if not np.array_equal(ids[start:stop], cut["input_ids"][: stop - start]):
            raise ConfigError(
                f"document {doc} of {store.path} is not text {doc} as this tokenizer cuts it; give "
                "the world, seed and tokenizer that were harvested"
            )
        for name, value, rows in _labels(texts[doc], cut["offset_mapping"][: stop - start]):
            if name in words:
                words[name].add(value, start + rows)
            elif name in _SENTENCES:
                spreads[name].add(value, start + rows, held_out=bool(store.held_out[doc]))
        for name in ("topic", "sentiment", "register"):
            whole = np.arange(start, stop)
            spreads[name].add(
                str(getattr(texts[doc], name)), whole, held_out=bool(store.held_out[doc])
            )
    made = {name: part.layer() for name, part in words.items()}
    made |= {name: part.layer() for name, part in spreads.items()}
    return WorldTruth({name: made[name] for name in LAYERS if made[name].names})


class _Words:
    """Labels of words, which are judged at their last token."""

    def __init__(self, n_rows: int, held_out: Bools) -> None:
        self._codes: dict[str, int] = {}
        self._label = np.full(n_rows, -1, dtype=np.int64)
        self._counted = np.ones(n_rows, dtype=bool)
        self._held_out = held_out

    def add(self, name: str, rows: Ints) -> None:
        """The word `name` stands at `rows`."""
        self._counted[rows[:-1]] = False
        self._label[rows[-1]] = self._codes.setdefault(name, len(self._codes))

    def layer(self) -> Layer:
        """What was added."""
        return Layer(tuple(self._codes), self._label, self._counted, self._held_out)


class _Spreads:
    """Labels of stretches of rows, which are judged as a whole."""

    def __init__(self, n_rows: int) -> None:
        self._codes: dict[str, int] = {}
        self._unit_of_row = np.full(n_rows, -1, dtype=np.int32)
        self._labels: list[int] = []
        self._held_out: list[bool] = []

    def add(self, name: str, rows: Ints, *, held_out: bool) -> None:
        """`name` holds of the stretch `rows`."""
        self._unit_of_row[rows] = len(self._labels)
        self._labels.append(self._codes.setdefault(name, len(self._codes)))
        self._held_out.append(held_out)

    def layer(self) -> Layer:
        """What was added."""
        label = np.array(self._labels, dtype=np.int64)
        everything = np.ones(len(label), dtype=bool)
        held_out = np.array(self._held_out, dtype=bool)
        return Layer(tuple(self._codes), label, everything, held_out, self._unit_of_row)


def _labels(
    text: LabelledText, offsets: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, str, Ints]]:
    """Layer, label and tokens of every span; a concept's span is of the layer of its level."""
    if not offsets:
        return
    begins, ends = np.asarray(offsets, dtype=np.int64).T
    # The space that a token begins with counts for nothing.
    begins = begins + [text.text[b:e].isspace() or text.text[b : b + 1] == " " for b, e in offsets]
    for span in text.spans:
        rows = np.flatnonzero((span.start < ends) & (begins < span.end))
        name = span.layer
        if name == "concept":
            name = LEVELS[len(levels_of(span.name)) - 1]
        if name in LAYERS and len(rows):
            yield name, span.name, rows
