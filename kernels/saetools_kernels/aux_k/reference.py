"""AuxK as the definition reads: dense activations of the listed latents, a mask, a product."""

import torch
from torch import Tensor

from saetools_kernels.topk_rows.reference import topk_rows

__all__ = ["aux_decode"]


def aux_decode(
    x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, latents: Tensor, k: int
) -> Tensor:
    """Return the reconstruction from the k largest listed latents of every row, shape (n, d)."""
    pre_acts = x @ W_enc[latents].T + b_enc[latents]  # (n, m)
    chosen = topk_rows(pre_acts.detach(), k)[1]
    mask = torch.zeros_like(pre_acts).scatter(1, chosen, 1.0)
    return (pre_acts.relu() * mask) @ W_dec[latents]
