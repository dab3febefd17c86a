"""The gradient of a latent-major matrix in the forms in which it arises, read a block at a time.

In a k-sparse step the gradient of W_dec or W_enc is a sum of k weighted rows a token. Written out
it would be as large as the matrix; kept as `RowSums` it is as large as the list of entries.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from saetools_kernels.row_scatter_add import LatentOrder

__all__ = ["RowGradient", "RowSums", "SomeRows", "row_sums"]


class RowSums(NamedTuple):
    """Row f is Σ values[j] · source[rows[j]] over j from offsets[f] to offsets[f + 1].

    values (nnz,) and rows (nnz,) are ordered by latent; offsets is (n_latents + 1,); source (m, d).
    """

    values: Tensor
    rows: Tensor
    offsets: Tensor
    source: Tensor


class SomeRows(NamedTuple):
    """Rows that are not zero: their latents (m,), ascending, and what they are, (m, d)."""

    latents: Tensor
    rows: Tensor


class RowGradient(NamedTuple):
    """The sum of its parts, of shape (n_latents, d); a part that is absent is zero."""

    sums: tuple[RowSums, ...] = ()
    some: tuple[SomeRows, ...] = ()
    whole: Tensor | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it is written out."""
        return self.whole is not None and not self.sums and not self.some

    @torch.no_grad()
    def block(self, start: int, stop: int, *, like: Tensor) -> Tensor:
        """Rows `start` to `stop` (excluded) as a fresh tensor of the dtype and device of `like`."""
        out: Tensor | None = None
        for part in self.sums:
            added = _summed(part, start, stop).to(like.dtype)  # a sum of 16-bit rows has 16 bits
            out = added if out is None else out.add_(added)
        if self.whole is not None:
            added = self.whole[start:stop].to(like.dtype)
            out = added.clone() if out is None else out.add_(added)
        if out is None:
            out = torch.zeros_like(like[start:stop])
        for latents, rows in self.some:
            first, end = torch.searchsorted(latents, latents.new_tensor([start, stop])).tolist()
            out.index_add_(0, latents[first:end] - start, rows[first:end].to(like.dtype))
        return out

    def scaled(self, factor: Tensor | float) -> "RowGradient":
        """The gradient of `factor` times the loss."""
        return RowGradient(
            tuple(part._replace(values=part.values * factor) for part in self.sums),
            tuple(part._replace(rows=part.rows * factor) for part in self.some),
            None if self.whole is None else self.whole * factor,
        )


def row_sums(values: Tensor, rows: Tensor, order: LatentOrder, source: Tensor) -> RowSums:
    """Put entries in the order of `order_by_latent`; both matrices of a step share one order."""
    return RowSums(values[order.permutation], rows[order.permutation], order.offsets, source)


def _summed(part: RowSums, start: int, stop: int) -> Tensor:
    offsets = part.offsets[start : stop + 1]
    first, end = (int(offsets[0]), int(offsets[-1]))
    # embedding_bag is twice as fast as MKL's sparse product here, and runs on every device.
    return functional.embedding_bag(
        part.rows[first:end],
        part.source,
        offsets - first,
        per_sample_weights=part.values[first:end].to(part.source.dtype),
        mode="sum",
        include_last_offset=True,
    )
