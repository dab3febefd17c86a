"""Full and fractional absorption of single tokens, given the concept's probe and its latents.

With p the unit vector of the probe, u = x·p, and latent j adding a_j = z_j · (d_j·p) along it:

    full       every split latent is silent, the latent with the greatest a_j has
               cos(d_j, p) ≥ 0.025, u ≥ 0 and a_j ≥ 0.4 u
    fraction   M = Σ a_j over split latents; A = Σ a_j over the (at most 3) greatest others with
               cos(d_j, p) ≥ 0.1 and a_j > 0; 0 if M ≥ u or A < 0.4 u, 1 if M ≤ 0,
               else a / (a + M) with a = min(A, u − M)

(Chanin et al. 2024, arXiv:2409.14507; thresholds as in SAEBench.)
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saetools.types import SparseLatents

__all__ = ["Absorbed", "absorbed"]

_SILENT = 1e-8
_LEAST_COSINE = 0.025
_LEAST_SHARE = 0.4
_ABSORBER_COSINE = 0.1
_N_ABSORBERS = 3


class Absorbed(NamedTuple):
    """Whether each token's concept is absorbed whole, and which part of it is; both (n,)."""

    full: Bool[Tensor, " n"]
    fraction: Float[Tensor, " n"]


def absorbed(
    x: Float[Tensor, "n d_in"],
    latents: SparseLatents,
    *,
    probe: Float[Tensor, " d_in"],
    W_dec: Float[Tensor, "n_latents d_in"],
    split: Int[Tensor, " s"],
) -> Absorbed:
    """Absorption of a concept at tokens on which it is on.

    Args:
        x: activations.
        latents: their latents.
        probe: direction of the concept's probe, of any length.
        W_dec: decoder rows.
        split: the latents that are taken to stand for the concept.
    """
    unit = probe / probe.norm()
    along = W_dec @ unit  # (n_latents,)
    cosine = along / W_dec.norm(dim=1).clamp_min(1e-12)
    u = x @ unit  # (n,)
    fires = latents.values.abs() >= _SILENT  # (n, k)
    own = torch.isin(latents.indices, split) & fires
    part = torch.where(fires, latents.values * along[latents.indices], 0.0)  # (n, k), a_j
    where = cosine[latents.indices]
    return Absorbed(_full(part, where, fires, own, u), _fraction(part, where, fires & ~own, own, u))


def _full(part: Tensor, cosine: Tensor, fires: Tensor, own: Tensor, u: Tensor) -> Tensor:
    most, slot = part.masked_fill(~fires, -torch.inf).max(dim=1)
    close = cosine.gather(1, slot.unsqueeze(1)).squeeze(1) >= _LEAST_COSINE
    silent = ~own.any(1)
    found: Tensor = silent & fires.any(1) & close & (u >= 0) & (most >= _LEAST_SHARE * u)
    return found


def _fraction(part: Tensor, cosine: Tensor, others: Tensor, own: Tensor, u: Tensor) -> Tensor:
    main = (part * own).sum(1)  # M
    absorbing = others & (cosine >= _ABSORBER_COSINE) & (part > 0)
    n_kept = min(_N_ABSORBERS, part.shape[1])
    stand_in = (part * absorbing).topk(n_kept, dim=1).values.sum(1)  # A
    taken = torch.minimum(stand_in, u - main)
    share = torch.where(main <= 0, 1.0, taken / (taken + main))
    return torch.where((main >= u) | (stand_in < _LEAST_SHARE * u), 0.0, share)
