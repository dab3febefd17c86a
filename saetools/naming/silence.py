"""Texts in which a latent does not fire, for a namer that wants to know what it is not.

From training documents only, and one of a document.
"""

import numpy as np
import numpy.typing as npt

from saetools.analysis import Context, LatentIndex

__all__ = ["silent_contexts"]

_TRIES = 20  # candidates drawn for each context wanted


def silent_contexts(
    index: LatentIndex, latent: int, *, n: int, near: bool, seed: int = 0
) -> list[Context]:
    """Stretches of training documents around places where a latent is silent on all tokens.

    Args:
        index: with the activations of every latent.
        latent: the latent.
        n: contexts at most; fewer where it is hardly ever silent.
        near: around places where the latents with the nearest decoder rows fire; else anywhere.
        seed: of the choice.
    """
    rng = np.random.default_rng([seed, latent])
    row = _near(index, latent, rng) if near else _anywhere(index, n, rng)
    doc = np.searchsorted(index.doc_tokens.bounds, row, side="right") - 1
    silent = ~_fires_around(index, latent, row) & ~index.docs.held_out[doc]
    _, first = np.unique(doc[silent], return_index=True)
    places = np.sort(first)[:n]  # in the order drawn
    return [
        index.context_at(latent, int(d), int(r - index.doc_tokens.bounds[d]))
        for d, r in zip(doc[silent][places], row[silent][places], strict=True)
    ]


def _anywhere(index: LatentIndex, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    n_tokens = int(index.doc_tokens.bounds[-1])
    return rng.choice(n_tokens, size=min(n * _TRIES, n_tokens), replace=False)


def _near(index: LatentIndex, latent: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows on which the latent's neighbours fire, one neighbour after the other, shuffled."""
    found = [np.zeros(0, dtype=np.int64)]
    for other, _ in index.decoder_neighbours.of(latent):
        posted = index.postings(other)
        found.append(rng.permutation(index.doc_tokens.bounds[posted.doc] + posted.pos))
    return np.concatenate(found)


def _fires_around(
    index: LatentIndex, latent: int, row: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether the latent fires within a window of each row."""
    posted = index.postings(latent)
    own = index.doc_tokens.bounds[posted.doc] + posted.pos  # rising
    before = np.searchsorted(own, row - index.window, side="left")
    after = np.searchsorted(own, row + index.window, side="right")
    return np.asarray(after > before)
