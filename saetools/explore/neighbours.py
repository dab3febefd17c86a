"""Nearest latents by cosine of decoder rows, in blocks, so that no n_latents² matrix exists."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.explore.bundle import NONE_32

__all__ = ["Neighbours", "nearest_latents"]

_BLOCK = 1024


class Neighbours(NamedTuple):
    """Nearest latents, best first: ids (n_latents, n) and cosines in hundredths (n_latents, n)."""

    ids: npt.NDArray[np.uint32]
    cosines: npt.NDArray[np.int8]


def nearest_latents(
    W_dec: Float[Tensor, "n_latents d_in"], *, live: npt.NDArray[np.int64], n: int = 8
) -> Neighbours:
    """The `n` live latents nearest to each live latent, itself left out.

    Dead latents have no neighbours and are nobody's: their rows are where training left them.
    """
    ids = np.full((len(W_dec), n), NONE_32, dtype=np.uint32)
    cosines = np.zeros((len(W_dec), n), dtype=np.int8)
    rows = torch.nn.functional.normalize(W_dec.detach().float()[torch.as_tensor(live)], dim=1)
    n_found = min(n, len(rows) - 1)
    if n_found < 1:
        return Neighbours(ids, cosines)
    for start in range(0, len(rows), _BLOCK):
        cosine = rows[start : start + _BLOCK] @ rows.T  # (block, n_live)
        own = torch.arange(len(cosine), device=cosine.device)
        cosine[own, own + start] = -torch.inf
        top = cosine.topk(n_found, dim=1)
        here = live[start : start + _BLOCK]
        ids[here, :n_found] = live[top.indices.cpu().numpy()]
        cosines[here, :n_found] = (top.values * 100).round().cpu().numpy().astype(np.int8)
    return Neighbours(ids, cosines)
