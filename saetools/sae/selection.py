"""Which latents are active: selection rules over pre-activations, none of which keeps a gradient.

All rules run over row chunks, so that the pre-activations (n, n_latents) are never whole in memory.
A rule may look at pre-activations of a lower precision (`Encoder.dtype`); the values of those that
it chooses are then computed again in the precision of the weights.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.sae import ops
from saetools.sae.scratch import Scratch
from saetools.types import SparseLatents

__all__ = [
    "Encoder",
    "Selection",
    "count_bounds",
    "flat",
    "kth_largest",
    "select_above",
    "select_batch_topk",
    "select_topk",
]

# The product of a chunk loses a sixth of its speed at a quarter of this size.
_CHUNK_BYTES = 64 * 2**20


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


class Encoder(NamedTuple):
    """What turns centred activations into pre-activations.

    weight has one row a latent, bias one value; dtype is the precision of the product that selects,
    None that of the weights; scratch holds the chunks of pre-activations.
    """

    weight: Float[Tensor, "n_latents d_in"]
    bias: Float[Tensor, " n_latents"]
    dtype: torch.dtype | None = None
    scratch: Scratch | None = None

    @property
    def n_latents(self) -> int:
        """Size of the dictionary."""
        return len(self.weight)

    @property
    def rough(self) -> bool:
        """Whether selection sees another precision than that of the weights."""
        return self.dtype not in (None, self.weight.dtype)


@torch.no_grad()
def select_topk(x: Float[Tensor, "n d_in"], encoder: Encoder, *, k: int) -> SparseLatents:
    """The `k` largest pre-activations of each token; those that are not positive are empty slots.

    Args:
        x: centred input (b_dec already taken off).
        k: at most this many a token; clamped to n_latents. Indices rise within a token.
    """
    k = min(k, encoder.n_latents)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    values = x.new_empty(len(x), k)
    for start, pre_acts in _pre_act_chunks(x, encoder):
        top, where = ops.topk_rows(pre_acts, k)
        stop = start + len(top)
        indices[start:stop], order = where.sort(dim=1)
        if not encoder.rough:
            values[start:stop] = top.gather(1, order)
    if encoder.rough:
        rows = torch.arange(len(x), device=x.device).repeat_interleave(k)
        values = _exact(x, encoder, rows, indices.view(-1)).view(indices.shape)
    return SparseLatents(values.relu_(), indices, encoder.n_latents)


@torch.no_grad()
def select_above(
    x: Float[Tensor, "n d_in"], encoder: Encoder, *, threshold: float | Float[Tensor, " n_latents"]
) -> Selection:
    """Every pre-activation above `threshold` (one number, or one a latent) and above zero."""
    per_latent = isinstance(threshold, Tensor) and threshold.ndim > 0
    floor = threshold.clamp_min(0) if isinstance(threshold, Tensor) else max(threshold, 0.0)
    if isinstance(floor, Tensor) and not per_latent:
        floor = float(floor)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start, pre_acts in _pre_act_chunks(x, encoder):
        flat = pre_acts.view(-1)
        hit = (pre_acts > floor).view(-1).nonzero().squeeze(-1)
        row = hit.div(encoder.n_latents, rounding_mode="floor")
        parts.append((flat[hit], row + start, hit - row * encoder.n_latents))
    if not parts:
        empty = torch.empty(0, dtype=torch.int64, device=x.device)
        parts = [(x.new_empty(0), empty, empty)]
    values, rows, latents = (torch.cat(column) for column in zip(*parts, strict=True))
    return Selection(values, rows, latents, count_bounds(rows, len(x)))


@torch.no_grad()
def select_batch_topk(
    x: Float[Tensor, "n d_in"], encoder: Encoder, *, k: int, hint: float | None = None
) -> Selection:
    """The k·n largest positive pre-activations of the whole batch, exactly.

    Args:
        hint: a guess of the resulting threshold (that of the previous batch). Only candidates above
            nine tenths of it are kept while the product runs; the guess changes the time, never the
            result: when too few pass, the pass is repeated without it.
    """
    budget = min(k, encoder.n_latents) * len(x)
    floor = 0.9 * hint if hint is not None and hint > 0 else 0.0
    found = select_above(x, encoder, threshold=floor)
    if floor > 0 and len(found.values) < budget:
        found = select_above(x, encoder, threshold=0.0)
    if len(found.values) > budget:
        cut = kth_largest(found.values, budget)
        keep = found.values > cut
        ties = (found.values == cut).nonzero().squeeze(-1)
        # The earliest token, then the lowest latent, wins a tie.
        keep[ties[: budget - int(keep.sum())]] = True
        found = _picked(found, keep)
    if not encoder.rough:
        return found
    exact = _exact(x, encoder, found.rows, found.latents)
    return _picked(found._replace(values=exact), exact > 0)


def kth_largest(values: Float[Tensor, " m"], k: int) -> float:
    """The k-th largest of `values`, counted from 1."""
    return float(values.kthvalue(len(values) - k + 1).values)


def count_bounds(rows: Int[Tensor, " nnz"], n: int) -> Int[Tensor, " n1"]:
    """Where each of `n` rows starts and ends in a list that is ordered by row."""
    bounds = torch.zeros(n + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=n), 0, out=bounds[1:])
    return bounds


def flat(latents: SparseLatents) -> Selection:
    """The active latents of `SparseLatents` as one list."""
    n, k = latents.values.shape
    on = latents.values != 0
    if bool(on.all()):
        rows = torch.arange(n, device=on.device).repeat_interleave(k)
        bounds = torch.arange(0, n * k + 1, max(k, 1), device=on.device)
        return Selection(latents.values.view(-1), rows, latents.indices.view(-1), bounds)
    rows = on.nonzero()[:, 0]
    return Selection(latents.values[on], rows, latents.indices[on], count_bounds(rows, n))


def _picked(chosen: Selection, keep: Tensor) -> Selection:
    rows = chosen.rows[keep]
    bounds = count_bounds(rows, chosen.n_tokens)
    return Selection(chosen.values[keep], rows, chosen.latents[keep], bounds)


def _exact(x: Tensor, encoder: Encoder, rows: Tensor, latents: Tensor) -> Tensor:
    return ops.gathered_dots(x, encoder.weight, rows, latents) + encoder.bias[latents]


def _pre_act_chunks(
    x: Float[Tensor, "n d_in"], encoder: Encoder
) -> Iterator[tuple[int, Float[Tensor, "c n_latents"]]]:
    dtype = encoder.dtype or encoder.weight.dtype
    x, weight, bias = x.to(dtype), encoder.weight.to(dtype), encoder.bias.to(dtype)
    rows = min(max(64, _CHUNK_BYTES // (dtype.itemsize * len(weight))), len(x))
    scratch = encoder.scratch or Scratch()
    buffer = scratch.take("pre_acts", (rows, len(weight)), x)
    for start in range(0, len(x), max(rows, 1)):
        part = x[start : start + rows]
        yield start, torch.addmm(bias, part, weight.T, out=buffer[: len(part)])
