"""AuxK: dead latents are asked to reconstruct what the others left over (Gao et al. 2024).

    ê = Σ of the k_aux largest positive pre-activations among dead latents · W_dec      no bias
    loss = Σ ‖e − ê‖² / Σ ‖e − mean(e)‖²        e: the residual, which gets no gradient

Live latents are not candidates at all, so that none of them can be picked when every dead one is
negative. The gradients reach the encoder, the decoder and the bias of the dead latents.

Where processes share the rows, mean and sums go over the rows of all; where they share the latents,
the k_aux largest are those of all, and each adds its part to ê.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.sae.selection import among_largest
from saetools.sae.sharing import ALONE, Ranks

__all__ = ["AuxFit", "aux_fit"]

_CHUNK_BYTES = 16 * 2**20


class AuxFit(NamedTuple):
    """AuxK of a batch and its gradients, for dead latents `which` alone, ascending."""

    loss: Float[Tensor, ""]
    which: Int[Tensor, " m"]
    W_enc_rows: Float[Tensor, "m d_in"]
    W_dec: Float[Tensor, "m d_out"]
    b_enc: Float[Tensor, " m"]

    def scaled(self, factor: float) -> "AuxFit":
        """The loss times `factor`, and its gradients."""
        return AuxFit(
            self.loss * factor,
            self.which,
            self.W_enc_rows * factor,
            self.W_dec * factor,
            self.b_enc * factor,
        )


@torch.no_grad()
def aux_fit(
    centred: Float[Tensor, "n d_in"],
    residual: Float[Tensor, "n d_out"],
    which: Int[Tensor, " m"],
    *,
    k_aux: int,
    W_enc_rows: Float[Tensor, "n_latents d_in"],
    b_enc: Float[Tensor, " n_latents"],
    W_dec: Float[Tensor, "n_latents d_out"],
    rows: Ranks = ALONE,
    latents: Ranks = ALONE,
) -> AuxFit:
    """AuxK over the latents `which`; 0 with zero gradients where the residual has no variance.

    With `rows`, the batch is this rank's part of one; with `latents`, the weights and `which` are
    this rank's part of all. The loss is that of the whole, and so is the gradient of each latent.
    """
    encoder, bias, decoder = W_enc_rows[which], b_enc[which], W_dec[which]
    mean = rows.sum(residual.sum(0)) / max(1, rows.total(len(residual)))
    spread = rows.sum((residual - mean).square().sum())
    per_spread = torch.where(spread > 0, 1 / spread, torch.zeros_like(spread))
    n_dead = latents.total(len(which))
    k, n_kept = min(k_aux, n_dead), min(k_aux, len(which))
    grads = (torch.zeros_like(encoder), torch.zeros_like(decoder), torch.zeros_like(bias))
    error = spread.new_zeros(())
    size = max(64, _CHUNK_BYTES // (4 * max(1, n_dead)))
    for start in range(0, len(centred), size):
        part, left = centred[start : start + size], residual[start : start + size]
        top = torch.addmm(bias, part, encoder.T).topk(n_kept, dim=1, sorted=False)
        values = top.values.relu()
        if latents.size > 1:
            values.masked_fill_(~among_largest(top.values, k, latents), 0.0)
        active = part.new_zeros(len(part), len(which)).scatter_(1, top.indices, values)
        missed = left - latents.sum(active @ decoder)  # (c, d_out)
        error += missed.square().sum()
        grad_hat = missed * (-2 * per_spread)
        grad_active = (grad_hat @ decoder.T).mul_(active > 0)  # (c, m)
        grads[0].addmm_(grad_active.T, part)
        grads[1].addmm_(active.T, grad_hat)
        grads[2].add_(grad_active.sum(0))
    loss = rows.sum(error) * per_spread
    return AuxFit(loss, which, *(rows.sum(grad) for grad in grads))
