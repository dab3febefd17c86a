"""Choose documents out of many: a held-out part, or a fair sample that keeps all labels."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from saetools.corpus.base import Document
from saetools.errors import ConfigError

__all__ = ["held_out", "sample"]


def held_out(n_docs: int, *, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Say of each document whether it is kept away from training.

    Out of every run of `1 / fraction` neighbouring documents one is held out, at a place drawn
    from the seed. So a corpus sorted by label gives both parts every larger label, and the answer
    for a document depends only on its index, `fraction` and `seed`, never on `n_docs`.

    Args:
        n_docs: number of documents.
        fraction: share to hold out, 0 <= fraction < 1.
        seed: another seed, another split.

    Returns:
        True at held-out documents, shape (n_docs,).
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"held_out: fraction must be at least 0 and below 1; got {fraction}")
    mask = np.zeros(n_docs, dtype=bool)
    runs = math.ceil(n_docs * fraction) if fraction >= 1e-9 else 0  # less is none at all
    for run in range(runs):
        start, stop = _run_start(run, fraction), _run_start(run + 1, fraction)
        digest = hashlib.sha256(f"held_out/{seed}/{run}".encode()).digest()
        pick = start + int.from_bytes(digest[:8], "big") % (stop - start)
        if pick < n_docs:
            mask[pick] = True
    return mask


def sample(documents: Sequence[Document], n_docs: int | None) -> list[Document]:
    """Keep `n_docs` documents, chosen by the hash of their title and text, in their old order.

    A hash knows nothing of the order, so every label keeps its share, and a larger sample holds
    the smaller one. None keeps all.
    """
    if n_docs is None or n_docs >= len(documents):
        return list(documents)
    order = sorted(range(len(documents)), key=lambda i: (_rank(documents[i]), i))
    return [documents[i] for i in sorted(order[:n_docs])]


def _run_start(run: int, fraction: float) -> int:
    # 3 / 0.3 is a hair above 10 in floating point.
    return math.ceil(run / fraction - 1e-9)


def _rank(document: Document) -> bytes:
    key = f"{document.title}\0{document.text}"
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
