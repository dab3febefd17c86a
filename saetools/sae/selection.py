"""Which latents are active: selection rules over pre-activations, none of which keeps a gradient.

All rules run over row chunks, so that the pre-activations (n, n_latents) are never whole in memory.
Gradients are attached afterwards, to the chosen values alone, by `saetools.sae.ops.pre_act_values`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.sae import ops
from saetools.types import SparseLatents

__all__ = [
    "Selection",
    "count_bounds",
    "kth_largest",
    "select_above",
    "select_batch_topk",
    "select_topk",
]

_CHUNK_BYTES = 16 * 2**20


class Selection(NamedTuple):
    """Active latents of `n` tokens as one flat list, ordered by token.

    values (nnz,) are positive; rows (nnz,) is the token and latents (nnz,) the latent of each
    value; bounds (n + 1,) says where each token's entries start and end.
    """

    values: Float[Tensor, " nnz"]
    rows: Int[Tensor, " nnz"]
    latents: Int[Tensor, " nnz"]
    bounds: Int[Tensor, " n1"]

    @property
    def n_tokens(self) -> int:
        """Number of tokens, those without an active latent included."""
        return len(self.bounds) - 1

    def padded(self, n_latents: int) -> SparseLatents:
        """The same as `SparseLatents`, as wide as the token with most active latents."""
        counts = self.bounds.diff()
        width = max(int(counts.max()) if len(counts) else 0, 1)
        slot = torch.arange(len(self.rows), device=self.rows.device) - self.bounds[self.rows]
        values = self.values.new_zeros(self.n_tokens, width)
        indices = self.latents.new_zeros(self.n_tokens, width)
        values[self.rows, slot] = self.values
        indices[self.rows, slot] = self.latents
        return SparseLatents(values, indices, n_latents)


@torch.no_grad()
def select_topk(
    x: Float[Tensor, "n d_in"],
    weight: Float[Tensor, "n_latents d_in"],
    bias: Float[Tensor, " n_latents"],
    *,
    k: int,
) -> SparseLatents:
    """The `k` largest pre-activations of each token; those that are not positive are empty slots.

    Args:
        x: centred input (b_dec already taken off).
        weight: encoder, one row a latent.
        bias: encoder bias.
        k: at most this many a token; clamped to n_latents.
    """
    k = min(k, len(weight))
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    for start, pre_acts in _pre_act_chunks(x, weight, bias):
        top, where = ops.topk_rows(pre_acts, k)
        values[start : start + len(top)] = top.relu_()
        indices[start : start + len(top)] = where
    return SparseLatents(values, indices, len(weight))


@torch.no_grad()
def select_above(
    x: Float[Tensor, "n d_in"],
    weight: Float[Tensor, "n_latents d_in"],
    bias: Float[Tensor, " n_latents"],
    *,
    threshold: float,
) -> Selection:
    """Every pre-activation above `threshold` and above zero, however many a token has."""
    floor = max(threshold, 0.0)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start, pre_acts in _pre_act_chunks(x, weight, bias):
        flat = pre_acts.view(-1)
        hit = (flat > floor).nonzero().squeeze(-1)
        row = hit.div(len(weight), rounding_mode="floor")
        parts.append((flat[hit], row + start, hit - row * len(weight)))
    if not parts:
        empty = torch.empty(0, dtype=torch.int64, device=x.device)
        parts = [(x.new_empty(0), empty, empty)]
    values, rows, latents = (torch.cat(column) for column in zip(*parts, strict=True))
    return Selection(values, rows, latents, count_bounds(rows, len(x)))


@torch.no_grad()
def select_batch_topk(
    x: Float[Tensor, "n d_in"],
    weight: Float[Tensor, "n_latents d_in"],
    bias: Float[Tensor, " n_latents"],
    *,
    k: int,
    hint: float | None = None,
) -> Selection:
    """The k·n largest positive pre-activations of the whole batch, exactly.

    Args:
        hint: a guess of the resulting threshold (that of the previous batch). Only candidates above
            nine tenths of it are kept while the product runs; the guess changes the time, never the
            result: when too few pass, the pass is repeated without it.
    """
    budget = min(k, len(weight)) * len(x)
    floor = 0.9 * hint if hint is not None and hint > 0 else 0.0
    found = select_above(x, weight, bias, threshold=floor)
    if floor > 0 and len(found.values) < budget:
        found = select_above(x, weight, bias, threshold=0.0)
    if len(found.values) <= budget:
        return found
    cut = kth_largest(found.values, budget)
    keep = found.values > cut
    ties = (found.values == cut).nonzero().squeeze(-1)
    keep[ties[: budget - int(keep.sum())]] = True  # earliest token, then lowest latent, wins a tie
    rows = found.rows[keep]
    return Selection(found.values[keep], rows, found.latents[keep], count_bounds(rows, len(x)))


def kth_largest(values: Float[Tensor, " m"], k: int) -> float:
    """The k-th largest of `values`, counted from 1."""
    return float(values.kthvalue(len(values) - k + 1).values)


def count_bounds(rows: Int[Tensor, " nnz"], n: int) -> Int[Tensor, " n1"]:
    """Where each of `n` rows starts and ends in a list that is ordered by row."""
    bounds = torch.zeros(n + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=n), 0, out=bounds[1:])
    return bounds


def _pre_act_chunks(
    x: Float[Tensor, "n d_in"],
    weight: Float[Tensor, "n_latents d_in"],
    bias: Float[Tensor, " n_latents"],
) -> Iterator[tuple[int, Float[Tensor, "c n_latents"]]]:
    rows = max(64, _CHUNK_BYTES // (4 * len(weight)))
    buffer = x.new_empty(min(rows, len(x)), len(weight))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        yield start, torch.addmm(bias, part, weight.T, out=buffer[: len(part)])
