"""AuxK: dead latents are asked to reconstruct what the others left over (Gao et al. 2024).

    ê = Σ of the k_aux largest positive pre-activations among dead latents · W_dec      no bias
    loss = Σ ‖e − ê‖² / Σ ‖e − mean(e)‖²        e: the residual, which gets no gradient

Live latents are not candidates at all, so that none of them can be picked when every dead one is
negative. The gradients reach the encoder, the decoder and the bias of the dead latents.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
) -> AuxFit:
    """AuxK over the latents `which`; 0 with zero gradients where the residual has no variance."""
    encoder, bias, decoder = W_enc_rows[which], b_enc[which], W_dec[which]
    spread = (residual - residual.mean(0)).square().sum()
    per_spread = torch.where(spread > 0, 1 / spread, torch.zeros_like(spread))
    k = min(k_aux, len(which))
    grads = (torch.zeros_like(encoder), torch.zeros_like(decoder), torch.zeros_like(bias))
    error = spread.new_zeros(())
    size = max(64, _CHUNK_BYTES // (4 * max(1, len(which))))
    for start in range(0, len(centred), size):
        part, left = centred[start : start + size], residual[start : start + size]
        top = torch.addmm(bias, part, encoder.T).topk(k, dim=1, sorted=False)
        latents = part.new_zeros(len(part), len(which))
        latents.scatter_(1, top.indices, top.values.relu())
        missed = torch.addmm(left, latents, decoder, alpha=-1)  # (c, d_out)
        error += missed.square().sum()
        grad_hat = missed * (-2 * per_spread)
        grad_latents = (grad_hat @ decoder.T).mul_(latents > 0)  # (c, m)
        grads[0].addmm_(grad_latents.T, part)
        grads[1].addmm_(latents.T, grad_hat)
        grads[2].add_(grad_latents.sum(0))
    return AuxFit(error * per_spread, which, *grads)
