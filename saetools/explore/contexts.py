"""Contexts and words of all latents as flat arrays: shared vocabularies, activations as bytes.

An activation is kept as round(255 · activation / largest activation of its latent), at least 1
where the latent fires: the page tints and prints it, it does not compute with it. Held-out contexts
stay out: names are scored on them, and a reader who has seen them can't judge a name fairly.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.analysis import LatentIndex
from saetools.explore.bundle import NONE_16, NONE_32

__all__ = ["Packed", "pack_contexts", "pack_words"]

_HELD_OUT = 2  # of ContextTable.kind
_N_WORDS = 8

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Packed:
    """A part of a bundle: texts and figures for the head, and arrays that go with them."""

    texts: dict[str, Any]
    arrays: dict[str, Array]


def pack_contexts(index: LatentIndex) -> Packed:
    """Contexts in the order of the index: by latent, best ones first, then those of the spread.

    Arrays: latent_start (n_latents + 1,) and context_start (n_contexts + 1,) say where the contexts
    of a latent and the tokens of a context begin; context_* are (n_contexts,), token_ids and acts
    (n_context_tokens,).
    """
    table = index.contexts
    shown = table.kind != _HELD_OUT
    latent, doc, token = table.latent[shown], table.doc[shown], table.token[shown]
    inside = token >= 0  # (n_contexts, window); padding is -1
    largest = np.maximum(index.max_act[latent], np.finfo(np.float32).tiny)
    act = table.act[shown]
    level = np.clip(np.rint(act / largest[:, None] * 255), act > 0, 255)
    used, token_ids = np.unique(token[inside], return_inverse=True)
    titles, title_of_context = _numbered([index.docs.title[d] for d in doc.tolist()], [])
    labels, label_of_context = _numbered([index.docs.label[d] for d in doc.tolist()], index.labels)
    return Packed(
        texts={
            "vocab": [index.token_texts[t] for t in used.tolist()],
            "titles": titles,
            "labels": labels,
        },
        arrays={
            "latent_start": np.searchsorted(latent, np.arange(index.n_latents + 1)).astype("u4"),
            "context_start": np.r_[0, np.cumsum(inside.sum(1))].astype("u4"),
            "context_peak": table.peak[shown].astype("u2"),
            "context_kind": table.kind[shown].astype("u1"),
            "context_doc": doc.astype("u4"),
            "context_title": np.where(title_of_context < 0, NONE_32, title_of_context).astype("u4"),
            "context_label": np.where(label_of_context < 0, NONE_16, label_of_context).astype("u2"),
            "token_ids": _narrow(token_ids),
            "acts": level[inside].astype("u1"),
        },
    )


def pack_words(index: LatentIndex) -> Packed:
    """The eight words on which each latent spends most of its activation, heaviest first.

    word_share is the share of the latent's training activation, in 255ths.
    """
    table = index.units["word"]
    starts, sizes = table.bounds[:-1], np.diff(table.bounds)
    place = np.arange(len(table.unit)) - np.repeat(starts, sizes)
    latent = np.repeat(np.arange(index.n_latents), sizes)
    kept = (place < _N_WORDS) & (table.mass_train > 0)
    mass = np.maximum(index.stats.mass_train[latent[kept]], 1e-12)
    share = np.clip(np.rint(table.mass_train[kept] / mass * 255), 0, 255)
    used, word_ids = np.unique(table.unit[kept], return_inverse=True)
    word_start = np.searchsorted(latent[kept], np.arange(index.n_latents + 1))
    return Packed(
        texts={"words": [table.strings[u] for u in used.tolist()]},
        arrays={
            "word_start": word_start.astype("u4"),
            "word_ids": _narrow(word_ids),
            "word_share": share.astype("u1"),
        },
    )


def _numbered(texts: list[str | None], known: list[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Distinct texts, the known ones first, and the number of each text; -1 for None."""
    ids = {text: i for i, text in enumerate(known)}
    numbers = [-1 if text is None else ids.setdefault(text, len(ids)) for text in texts]
    return list(ids), np.array(numbers, dtype=np.int64)


def _narrow(ids: Array) -> Array:
    fits = len(ids) == 0 or ids.max() < NONE_16
    return ids.astype("u2" if fits else "u4")
