"""What is true of each row of a store that was harvested from texts of the planted world.

Words made of several tokens (most names) are judged at their last token, where a model has read
all of the word; their other tokens count neither way.
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

LEVELS = ("root", "branch", "leaf")
LAYERS = ("entity", "kind", "value", *LEVELS, "attribute", "form", "topic", "sentiment", "register")
"""Sorts of labels of which at most one of each holds at a token."""

_WORDS = ("entity", "kind", "value", *LEVELS)


@dataclass(frozen=True)
class Layer:
    """One sort of label at every row.

    Args:
        names: of the labels.
        label: index of the label that holds at each row, -1 for none, shape (n_rows,).
        counted: False at tokens inside a word that is judged at its last token, shape (n_rows,).
    """

    names: tuple[str, ...]
    label: npt.NDArray[np.int64]
    counted: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WorldTruth:
    """The labels of every row of a store.

    Args:
        layers: by name, those of LAYERS that occur.
        held_out: True at rows of documents that training does not see, shape (n_rows,).
    """

    layers: Mapping[str, Layer]
    held_out: npt.NDArray[np.bool_]

    def only(self, *names: str) -> "WorldTruth":
        """The same rows with some of the layers."""
        return WorldTruth({name: self.layers[name] for name in names}, self.held_out)

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
    found: dict[str, dict[str, int]] = {name: {} for name in LAYERS}
    label = {name: np.full(store.n_tokens, -1, dtype=np.int64) for name in LAYERS}
    counted = {name: np.ones(store.n_tokens, dtype=bool) for name in LAYERS}
    ids = np.concatenate([np.zeros(0, np.int32), *(batch.token_ids for batch in store.stream())])
    for doc, (start, stop) in enumerate(spans):
        cut = tokenizer(texts[doc].text, add_special_tokens=False, return_offsets_mapping=True)
        if not np.array_equal(ids[start:stop], cut["input_ids"][: stop - start]):
            raise ConfigError(
                f"document {doc} of {store.path} is not text {doc} as this tokenizer cuts it; give "
                "the world, seed and tokenizer that were harvested"
            )
        for name, value, rows in _labels(texts[doc], cut["offset_mapping"][: stop - start]):
            code = found[name].setdefault(value, len(found[name]))
            if name in _WORDS:
                counted[name][start + rows[:-1]] = False
                rows = rows[-1:]
            label[name][start + rows] = code
    layers = {
        name: Layer(tuple(values), label[name], counted[name])
        for name, values in found.items()
        if values
    }
    held = np.repeat(np.asarray(store.held_out)[: len(spans)], spans[:, 1] - spans[:, 0])
    return WorldTruth(layers, held)


def _labels(
    text: LabelledText, offsets: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, str, npt.NDArray[np.int64]]]:
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
