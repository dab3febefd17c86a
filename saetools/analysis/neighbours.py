"""Which latents stand near which: a table of the best few of each, and those by the decoder.

Cosines are taken in blocks, so that no n_latents² matrix exists.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

__all__ = ["N_NEIGHBOURS", "Neighbours", "nearest_latents", "nearest_to"]

N_NEIGHBOURS = 16

_BLOCK = 1024


@dataclass(frozen=True)
class Neighbours:
    """The best few relatives of each latent, best first.

    Args:
        ids: their numbers; -1 where there are no more.
        scores: how near they are; higher is nearer. 0 where there are no more.
    """

    ids: Int32[np.ndarray, "n_latents m"]
    scores: Float32[np.ndarray, "n_latents m"]

    @classmethod
    def none(cls, n_latents: int, m: int = N_NEIGHBOURS) -> "Neighbours":
        """A table in which nobody has a relative; it may be filled."""
        return cls(
            np.full((n_latents, m), -1, dtype=np.int32), np.zeros((n_latents, m), dtype=np.float32)
        )

    def of(self, latent: int) -> list[tuple[int, float]]:
        """Relatives of one latent with their scores, best first."""
        known = self.ids[latent] >= 0
        ids, scores = self.ids[latent][known].tolist(), self.scores[latent][known].tolist()
        return list(zip(ids, scores, strict=True))


def nearest_latents(
    W_dec: Float[Tensor, "n_latents d_out"], *, live: npt.NDArray[np.int64], n: int = N_NEIGHBOURS
) -> Neighbours:
    """The `n` live latents whose decoder rows have the largest cosine with each live latent's.

    Dead latents have no neighbours and are nobody's: their rows are where training left them.
    """
    found = Neighbours.none(len(W_dec), n)
    rows = torch.nn.functional.normalize(W_dec.detach().float()[torch.as_tensor(live)], dim=1)
    n_found = min(n, len(rows) - 1)
    if n_found < 1:
        return found
    for start in range(0, len(rows), _BLOCK):
        cosine = rows[start : start + _BLOCK] @ rows.T  # (block, n_live)
        own = torch.arange(len(cosine), device=cosine.device)
        cosine[own, own + start] = -torch.inf
        top = cosine.topk(n_found, dim=1)
        here = live[start : start + _BLOCK]
        found.ids[here, :n_found] = live[top.indices.cpu().numpy()]
        found.scores[here, :n_found] = top.values.cpu().numpy()
    return found


def nearest_to(
    direction: Float[Tensor, " d_out"],
    W_dec: Float[Tensor, "n_latents d_out"],
    *,
    live: npt.NDArray[np.int64],
    n: int = N_NEIGHBOURS,
) -> list[tuple[int, float]]:
    """Live latents whose decoder rows have the largest cosine with a direction, best first."""
    rows = torch.nn.functional.normalize(W_dec.detach().float()[torch.as_tensor(live)], dim=1)
    wanted = torch.nn.functional.normalize(direction.detach().float().to(rows.device), dim=0)
    top = (rows @ wanted).topk(min(n, len(rows)))
    ids = live[top.indices.cpu().numpy()].tolist()
    return list(zip(ids, top.values.tolist(), strict=True))
