"""What each live latent stands for in the planted world, found without looking at its name.

Of all labels, the one with which the latent's firing agrees best (F1 on training documents). It
stands if held-out documents confirm it: F1 of at least 0.5 and AUROC of at least 0.9, the second
because a label of most documents has a high F1 with whatever fires often. A latent without such a
label stands for nothing that was planted.

Plain words are no planted labels, and yet what many latents are about; `with_words` adds them.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from saetools import progress
from saetools.analysis.auroc import auroc
from saetools.analysis.codes import Entries
from saetools.analysis.token_text import readable, starts_word, style_of
from saetools.analysis.words import rebuild_words
from saetools.sae import SAE
from saetools.store import ActivationStore
from saetools.testbed.firing import encode_store, firing_f1, frequent, pooled_by_unit
from saetools.testbed.truth import Layer, WorldTruth

__all__ = ["MIN_TRAIN", "WORD", "LatentTruth", "latent_truths", "with_words"]

WORD = "word"
"""The layer of plain words."""

MIN_TRAIN = 20
"""Training units at which a label has to be on to be judged."""


class LatentTruth(NamedTuple):
    """What a latent stands for; f1 and auroc are of held-out documents."""

    latent: int
    layer: str
    name: str
    f1: float
    auroc: float


def with_words(truth: WorldTruth, store: ActivationStore, tokenizer: Any) -> WorldTruth:
    """The same truth with one more layer, last: the word that each token belongs to."""
    columns = store.columns(0, store.n_tokens)
    ids, token = np.unique(columns.token_ids, return_inverse=True)
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids.tolist())]
    style = style_of(tokenizer.get_vocab())
    doc = np.asarray(columns.doc)
    words = rebuild_words(
        token,
        texts=readable(pieces, style),
        starts=np.array([starts_word(piece, style) for piece in pieces], dtype=bool),
        doc=doc,
    )
    held = np.asarray(store.held_out)[doc]
    layer = Layer(
        tuple(words.strings), words.word.astype(np.int64), np.ones(len(doc), dtype=bool), held
    )
    return WorldTruth({**truth.layers, WORD: layer})


def latent_truths(
    sae: SAE,
    store: ActivationStore,
    truth: WorldTruth,
    *,
    least_f1: float = 0.5,
    least_auroc: float = 0.9,
    min_train: int = MIN_TRAIN,
    min_held_out: int = 5,
) -> dict[int, LatentTruth]:
    """Find what each latent stands for; latents that stand for nothing are left out.

    Args:
        sae: reads the store's first hook.
        store: with the held-out documents that training did not see.
        truth: what holds at its rows; of labels that agree equally, that of the first layer counts.
        least_f1, least_auroc: what held-out documents must confirm.
        min_train, min_held_out: units at which a label has to be on to be judged.
    """
    found: dict[int, LatentTruth] = {}
    with tempfile.TemporaryDirectory(prefix="saetools-codes-") as scratch:
        codes = encode_store(sae, store, Path(scratch))
        parts = list(codes.parts())
        with progress.task("truth", total=len(parts), unit="parts") as task:
            for first, last in parts:
                entries = codes.entries(first, last)
                best = _best(entries, first, last, truth, (min_train, min_held_out))
                found |= {t.latent: t for t in best if t.f1 >= least_f1 and t.auroc >= least_auroc}
                task.advance()
    return found


def _best(
    entries: Entries, first: int, last: int, truth: WorldTruth, least: tuple[int, int]
) -> Sequence[LatentTruth]:
    """The label of each of the latents `first` to `last - 1` that agrees best in training."""
    best = np.zeros(last - first)
    chosen: dict[int, LatentTruth] = {}
    for name, layer in truth.layers.items():
        pooled = pooled_by_unit(entries, entries.latent - first, layer)
        judged = frequent(layer, *least)
        train = firing_f1(pooled, last - first, layer, ~layer.held_out) * judged
        better = np.flatnonzero(train.max(1, initial=0.0) > best)
        best[better] = train.max(1)[better]
        held = firing_f1(pooled, last - first, layer, layer.held_out)
        scores: npt.NDArray[np.float64] = auroc(
            pooled,
            n_latents=last - first,
            label_of_doc=layer.label,
            n_labels=len(layer.names),
            docs=layer.held_out & layer.counted,
        )
        for i in better.tolist():
            label = int(train[i].argmax())
            chosen[i] = LatentTruth(
                first + i, name, layer.names[label], float(held[i, label]), float(scores[i, label])
            )
    return list(chosen.values())
