"""The words nearest to each latent, with the words that are near to everything held back.

    score(j, v) = 2 cos(j, v) - r(j) - r(v)

r(j) is the mean cosine of latent j with its 10 nearest words, r(v) that of word v with its 10
nearest latents (cross-domain similarity local scaling; Conneau et al. 2018, arXiv:1710.04087). A
hub, a word that is close to every latent, has a large r(v) and wins only where it is closer still.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["NearestWords", "nearest_words"]

_N_NEAR = 10
_BLOCK = 2048  # latents; with 20,000 words, 160 MB of cosines


class NearestWords(NamedTuple):
    """Words of each latent, best score first.

    word: index of the word; cosine: with the latent's direction; score: as above; all (n, n_best).
    """

    word: Int[Tensor, "n n_best"]
    cosine: Float[Tensor, "n n_best"]
    score: Float[Tensor, "n n_best"]


def nearest_words(
    directions: Float[Tensor, "n d"],
    words: Float[Tensor, "n_words d"],
    *,
    n_best: int = 5,
    n_near: int = _N_NEAR,
    correct: bool = True,
) -> NearestWords:
    """Find the nearest words of each direction.

    Args:
        directions: of the latents, any length; all of them, since r(v) is about all.
        words: vectors of the words in the same space, centred.
        n_best: words returned of each latent.
        n_near: neighbours that r is a mean of.
        correct: False ranks by cosine alone; `score` is then the cosine.
    """
    rows, columns = _unit(directions), _unit(words)
    n_best = min(n_best, len(columns))
    near_rows, near_words = min(n_near, len(columns)), min(n_near, len(rows))
    best = torch.full((len(columns), near_words), -2.0)
    for _, cos in _blocks(rows, columns):
        best = torch.cat([best, cos.T], dim=1).topk(near_words, dim=1).values
    hub = best.mean(1)  # r(v), (n_words,)
    found = []
    for _, cos in _blocks(rows, columns):
        own = cos.topk(near_rows, dim=1).values.mean(1, keepdim=True)  # r(j)
        scores = 2 * cos - own - hub if correct else cos
        top = scores.topk(n_best, dim=1)
        found.append(NearestWords(top.indices, cos.gather(1, top.indices), top.values))
    return NearestWords(*(torch.cat(column) for column in zip(*found, strict=True)))


def _unit(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return torch.nn.functional.normalize(x.float(), dim=1)


def _blocks(
    rows: Float[Tensor, "n d"], columns: Float[Tensor, "m d"]
) -> Iterator[tuple[int, Float[Tensor, "block m"]]]:
    for start in range(0, len(rows), _BLOCK):
        yield start, rows[start : start + _BLOCK] @ columns.T
