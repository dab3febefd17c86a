"""Which latents are active: selection rules over pre-activations, none of which keeps a gradient.

All rules run over row chunks, so that the pre-activations (n, n_latents) are never whole in memory.
A rule may look at pre-activations of a lower precision (`Encoder.dtype`); the values of those that
it chooses are then computed again in the precision of the weights.

Where processes share a step, each sees a part of the rows or of the latents; the largest of all are
then found by exchanging candidates, so that together they choose what one process would.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saetools.sae import ops
from saetools.sae.scratch import Scratch
from saetools.sae.sharing import ALONE, Ranks
from saetools.types import SparseLatents

__all__ = [
    "Encoder",
    "Selection",
    "among_largest",
    "count_bounds",
    "flat",
    "kth_largest",
    "select_above",
    "select_batch_topk",
    "select_topk",
]

# The product of a chunk loses a sixth of its speed at a quarter of this size.
_CHUNK_BYTES = 64 * 2**20
_EXCHANGE_BYTES = 64 * 2**20
_GUESS_ROWS = 128  # rows that tell a first threshold
_LEAST_TO_GUESS = 8  # times as many rows in a batch make the look at them worth it


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
    None that of the weights; scratch holds the chunks of pre-activations. rows and latents are the
    processes among which a step is shared: what is encoded are this one's rows, weight has this
    one's latents.
    """

    weight: Float[Tensor, "n_latents d_in"]
    bias: Float[Tensor, " n_latents"]
    dtype: torch.dtype | None = None
    scratch: Scratch | None = None
    rows: Ranks = ALONE
    latents: Ranks = ALONE

    @property
    def n_latents(self) -> int:
        """Number of latents that this process has; without others the size of the dictionary."""
        return len(self.weight)

    def gather(self, x: Tensor) -> Tensor:
        """`x` of all processes that share the step."""
        return self.rows.gather(self.latents.gather(x))

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
    k = min(k, encoder.latents.total(encoder.n_latents))
    n_kept = min(k, encoder.n_latents)
    indices = torch.empty(len(x), n_kept, dtype=torch.int64, device=x.device)
    values = x.new_empty(len(x), n_kept)
    for start, pre_acts in _pre_act_chunks(x, encoder):
        part = slice(start, start + len(pre_acts))
        values[part], indices[part] = ops.topk_rows(pre_acts, n_kept)
    elsewhere = None
    if encoder.latents.size > 1:
        elsewhere = ~among_largest(values, k, encoder.latents)
    if encoder.rough:
        rows = torch.arange(len(x), device=x.device).repeat_interleave(n_kept)
        values = _exact(x, encoder, rows, indices.view(-1)).view(indices.shape)
    if elsewhere is not None:
        values.masked_fill_(elsewhere, 0.0)
    return SparseLatents(values.relu_(), indices, encoder.n_latents)


@torch.no_grad()
def among_largest(values: Float[Tensor, "n m"], k: int, latents: Ranks) -> Bool[Tensor, "n m"]:
    """Which of this rank's values are among the k largest of their row on all ranks together.

    A tie is won by the lower rank, then by the lower column. All ranks have the same n.
    """
    n, m = values.shape
    n_columns = latents.total(m)
    keep = torch.empty(n, m, dtype=torch.bool, device=values.device)
    first = latents.gather(torch.tensor([m], device=values.device))[: latents.rank].sum()
    own = slice(int(first), int(first) + m)
    size = max(64, _EXCHANGE_BYTES // (16 * max(1, n_columns)))
    for start in range(0, n, size):
        part = values[start : start + size]
        every = latents.gather(part.T.contiguous())  # (n_columns, c)
        cut = every.topk(min(k, n_columns), dim=0, sorted=True).values[-1]
        above, level = every > cut, every == cut
        spare = k - above.sum(0)
        kept = above[own] | (level[own] & (level.cumsum(0)[own] <= spare))
        keep[start : start + size] = kept.T
    return keep


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
        hint: a guess of the resulting threshold (that of the previous batch); None: that of a few
            of the rows. Only candidates above nine tenths of it are kept while the product runs;
            the guess changes time and memory, never the result: when too few pass, the pass is
            repeated with half of it, and then without it.
    """
    n = encoder.rows.total(len(x))
    budget = min(k, encoder.latents.total(encoder.n_latents)) * n
    if hint is None and n >= _LEAST_TO_GUESS * _GUESS_ROWS:
        hint = _guess(x, encoder, k=k)
    floor = 0.9 * hint if hint is not None and hint > 0 else 0.0
    found = select_above(x, encoder, threshold=floor)
    while floor > 0 and _n_everywhere(found, encoder) < budget:
        floor = floor / 2 if hint is not None and floor > hint / 2 else 0.0
        found = select_above(x, encoder, threshold=floor)
    if _n_everywhere(found, encoder) > budget:
        found = _picked(found, _largest(found, budget, encoder, n_rows=n))
    if not encoder.rough:
        return found
    exact = _exact(x, encoder, found.rows, found.latents)
    return _picked(found._replace(values=exact), exact > 0)


def _guess(x: Tensor, encoder: Encoder, *, k: int) -> float:
    """The threshold that a few rows alone would have, the same on all processes.

    Without it the first batch would keep all that is positive: half of (n, n_latents).
    """
    some = x[:: max(1, len(x) // _GUESS_ROWS)]
    values = select_above(some, encoder, threshold=0.0).values
    share = k * len(some) * encoder.n_latents // encoder.latents.total(encoder.n_latents)
    found = kth_largest(values, share) if 0 < share <= len(values) else 0.0
    return float(encoder.gather(x.new_tensor([found])).min())


def _n_everywhere(found: Selection, encoder: Encoder) -> int:
    return encoder.rows.total(encoder.latents.total(len(found.values)))


def _largest(
    found: Selection, budget: int, encoder: Encoder, *, n_rows: int
) -> Bool[Tensor, " nnz"]:
    """Which of this process's entries are among the `budget` largest of all processes."""
    values = found.values
    if encoder.rows.size * encoder.latents.size > 1 and len(values) > budget:
        values = values[values >= kth_largest(values, budget)]  # the others cannot be among them
    values = encoder.gather(values)
    cut = kth_largest(values, budget)
    keep = found.values > cut
    spare = budget - int((values > cut).sum())
    # The earliest token, then the lowest latent, wins a tie.
    ties = (found.values == cut).nonzero().squeeze(-1)
    n_latents = encoder.latents.total(encoder.n_latents)
    row = found.rows[ties] + encoder.rows.span(n_rows).start
    place = row * n_latents + found.latents[ties] + encoder.latents.span(n_latents).start
    last = encoder.gather(place).sort().values[spare - 1]
    keep[ties[place <= last]] = True
    return keep


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
