"""Choose the documents of the experiment: all of the concept, and a fair share of the others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.errors import ConfigError, UnknownNameError, nearest

__all__ = ["Sample", "draw_sample", "eligible_docs"]

_HELD_OUT_SHARE = 0.4
_MIN_DOCS = 20
_MAX_LABELS = 8

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Documents of the experiment.

    Args:
        docs: their indices in the store, (n,).
        concept: which of them carry the concept's label, (n,).
        held_out: which of them are held out, (n,).
        label: label of each as text, "" where it has none, (n,).
        other_labels: the larger other labels, for the multi-class probe.
    """

    docs: Ints
    concept: npt.NDArray[np.bool_]
    held_out: npt.NDArray[np.bool_]
    label: npt.NDArray[Any]
    other_labels: tuple[str, ...]


def eligible_docs(
    labels: Sequence[str | None], held_out: npt.NDArray[np.bool_], usable: Ints, *, concept: str
) -> dict[str, Ints]:
    """Documents by part: "concept_train", "concept_held_out", "other_train", "other_held_out".

    Raises:
        UnknownNameError: no document has the label.
        ConfigError: a part has fewer than two documents, so nothing can be learned or tested.
    """
    is_concept = np.array([label == concept for label in labels])
    if not is_concept.any():
        known = sorted({label for label in labels if label is not None})
        raise UnknownNameError(
            f"no document is labelled {concept!r}; "
            + (
                f"nearest: {', '.join(nearest(concept, known))}"
                if known
                else "the corpus has no labels"
            )
        )
    parts = {
        f"{side}_{split}": usable[(is_concept[usable] == (side == "concept"))
                                  & (held_out[usable] == (split == "held_out"))]
        for side in ("concept", "other")
        for split in ("train", "held_out")
    }  # fmt: skip
    if min(map(len, parts.values())) < 2:
        counts = ", ".join(f"{name} {len(docs)}" for name, docs in parts.items())
        raise ConfigError(
            f"the concept {concept!r} needs at least two documents on each side of the split, of "
            f"the concept and of others; found {counts}; harvest more documents, choose a larger "
            "label, or hold out a larger fraction"
        )
    return parts


def draw_sample(
    parts: dict[str, Ints], labels: Sequence[str | None], *, n_docs: int, seed: int
) -> Sample:
    """Draw the documents: those of the concept, and up to `n_docs` others.

    Half of the others come evenly from the (at most eight) largest other labels with 20 documents
    or more, so that a multi-class probe has something to learn; the rest from all. Up to two fifths
    are held-out documents, to keep the intervals narrow. Of a concept with more than `n_docs`
    documents as many are drawn.
    """
    rng = np.random.default_rng([seed, 0x5A])
    others = np.concatenate([parts["other_train"], parts["other_held_out"]])
    counts = Counter(label for doc in others if (label := labels[doc]) is not None)
    large = [label for label, count in counts.most_common(_MAX_LABELS) if count >= _MIN_DOCS]
    concept = _draw(parts["concept_train"], parts["concept_held_out"], n_docs, rng)
    drawn: list[Ints] = []
    for label in large:
        train, held = (
            np.array(
                [doc for doc in parts[f"other_{split}"] if labels[doc] == label], dtype=np.int64
            )
            for split in ("train", "held_out")
        )
        drawn.append(_draw(train, held, n_docs // (2 * len(large)), rng))
    taken = np.concatenate([*drawn, np.empty(0, dtype=np.int64)])
    train, held = (np.setdiff1d(parts[f"other_{split}"], taken) for split in ("train", "held_out"))
    rest = _draw(train, held, n_docs - len(taken), rng)
    docs = np.concatenate([concept, taken, rest])
    held_out = np.isin(docs, np.concatenate([parts["concept_held_out"], parts["other_held_out"]]))
    return Sample(
        docs=docs,
        concept=np.arange(len(docs)) < len(concept),
        held_out=held_out,
        label=np.array([labels[doc] or "" for doc in docs]),
        other_labels=tuple(large),
    )


def _draw(train: Ints, held: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Up to n documents without repetition, up to two fifths of them held out."""
    n_held = min(len(held), max(round(_HELD_OUT_SHARE * n), n - len(train)), n)
    n_train = min(len(train), n - n_held)
    return np.concatenate(
        [rng.choice(train, n_train, replace=False), rng.choice(held, n_held, replace=False)]
    )
