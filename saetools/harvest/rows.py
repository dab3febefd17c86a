"""The rows of a group of documents: forward passes, the tokens that are kept, document order.

A row is a content token, or a document where a text encoder's tokens are pooled; then `pos` is 0
and the token id is that of CLS (`cls`), of the last token (`eot`) or of the first content token
(`mean`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saetools.corpus import Corpus
from saetools.errors import StoreError
from saetools.harvest.batching import Group, length_batches
from saetools.harvest.job import Job
from saetools.harvest.layout import NO_DOC, Window, as_batch, windows
from saetools.models.base import TokenBatch
from saetools.models.pooling import PoolingMode, pool
from saetools.store import TokenColumns
from saetools.store.schema import torch_dtype

__all__ = ["GroupRows", "read_group"]


class GroupRows(NamedTuple):
    """Rows of the documents `first` to `first + len(counts)`, in order.

    activations (n, d_in) by hook; columns (n,); counts: rows of each document; dropped: rows of
    each that were dropped because of their norm.
    """

    first: int
    activations: dict[str, Tensor]
    columns: TokenColumns
    counts: list[int]
    dropped: list[int]

    @property
    def n_dropped(self) -> int:
        """Rows that were dropped because of their norm."""
        return sum(self.dropped)

    def until(self, n_rows: int | None) -> "GroupRows":
        """The same, cut after the document that reaches `n_rows`; None cuts nothing."""
        if n_rows is None:
            return self
        kept, rows = 0, 0
        while kept < len(self.counts) and rows < n_rows:
            rows += self.counts[kept]
            kept += 1
        return GroupRows(
            self.first,
            {name: x[:rows] for name, x in self.activations.items()},
            TokenColumns(*(column[:rows] for column in self.columns)),
            self.counts[:kept],
            self.dropped[:kept],
        )


class _Rows(NamedTuple):
    """Rows of one batch: activations (n, d_in) by hook; ids, doc and pos (n,) int64."""

    x: dict[str, Tensor]
    ids: Tensor
    doc: Tensor
    pos: Tensor


def read_group(job: Job, group: Group) -> GroupRows:
    """Run the model over a group of documents.

    Raises:
        StoreError: an activation is NaN or infinite in the precision of the store.
    """
    contents = [document.content for document in job.corpus[group.start : group.stop]]
    found = _in_order(job, _read(job, windows(job, contents)))
    outlier = _outliers(job, found)
    counts, dropped = (
        torch.bincount(found.doc[which], minlength=len(contents)).tolist()
        for which in (~outlier, outlier)
    )
    if outlier.any():
        kept = {name: found.x[name][~outlier] for name in job.names}
        found = _Rows(kept, found.ids[~outlier], found.doc[~outlier], found.pos[~outlier])
    rows = GroupRows(
        group.start,
        found.x,
        TokenColumns(
            *(c.numpy().astype(np.int32) for c in (found.ids, found.doc + group.start, found.pos))
        ),
        counts,
        dropped,
    )
    for name, x in rows.activations.items():
        _check_finite(x, name, rows.columns, job.corpus, job.dtype)
    return rows


def _read(job: Job, laid: Sequence[Window]) -> list[_Rows]:
    """Forward passes over all windows, batched by length."""
    lengths = [len(window.ids) for window in laid]
    found = []
    for batch in length_batches(lengths, batch_tokens=job.forward_tokens):
        chosen = [laid[i] for i in batch]
        tokens = as_batch(job, chosen)
        activations = job.model.activations(tokens, job.names)
        if job.pooling == "token":
            found.append(_token_rows(job, chosen, tokens, activations))
        else:
            found.append(_pooled_rows(job.pooling, chosen, tokens, activations))
    return found


def _token_rows(
    job: Job, chosen: Sequence[Window], tokens: TokenBatch, activations: dict[str, Tensor]
) -> _Rows:
    doc = _padded([window.doc for window in chosen], filler=NO_DOC)  # (batch, pos)
    pos = _padded([window.pos for window in chosen], filler=0)
    wanted = tokens.content if job.options.special_tokens == "dropped" else tokens.mask
    kept = (wanted.cpu() & (doc != NO_DOC)).flatten().nonzero().squeeze(1)
    there = kept.to(tokens.ids.device)
    x = {name: activations[name].flatten(0, 1).index_select(0, there).cpu() for name in job.names}
    ids, doc, pos = (table.flatten()[kept] for table in (tokens.ids.cpu(), doc, pos))
    return _Rows(x, ids, doc, pos)


def _pooled_rows(
    mode: PoolingMode, chosen: Sequence[Window], tokens: TokenBatch, activations: dict[str, Tensor]
) -> _Rows:
    has_text = tokens.content.any(1)
    mask = tokens.mask[has_text]
    ids = tokens.ids[has_text]
    first = {
        "cls": torch.zeros(len(ids), dtype=torch.int64, device=ids.device),
        "eot": mask.sum(1) - 1,
        "mean": tokens.content[has_text].int().argmax(1),
    }[mode]
    x = {
        # Padding may hold anything, NaN included, and a weight of 0 does not undo that.
        name: pool(a[has_text].masked_fill(~mask.unsqueeze(-1), 0), mask, mode).cpu()
        for name, a in activations.items()
    }
    doc = torch.tensor([window.doc[0] for window in chosen])[has_text.cpu()]
    token = ids.gather(1, first.unsqueeze(1)).squeeze(1).cpu()
    return _Rows(x, token, doc, torch.zeros_like(doc))


def _in_order(job: Job, parts: Sequence[_Rows]) -> _Rows:
    """Rows of all batches, by document and place in it."""
    if not parts:
        none = torch.zeros(0, dtype=torch.int64)
        return _Rows(
            {name: torch.zeros(0, job.model.width(name)) for name in job.names}, *[none] * 3
        )
    ids = torch.cat([part.ids for part in parts])
    doc = torch.cat([part.doc for part in parts])
    pos = torch.cat([part.pos for part in parts])
    order = torch.from_numpy(np.lexsort((pos.numpy(), doc.numpy())))
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    x = {name: _placed([part.x[name] for part in parts], places) for name in job.names}
    return _Rows(x, ids[order], doc[order], pos[order])


def _placed(parts: Sequence[Tensor], places: Tensor) -> Tensor:
    """Row i of the parts, end to end, at place `places[i]`: each is copied once."""
    rows = parts[0].new_empty(len(places), parts[0].shape[1])
    start = 0
    for part in parts:
        rows.index_copy_(0, places[start : start + len(part)], part)
        start += len(part)
    return rows


def _padded(rows: Sequence[Sequence[int]], *, filler: int) -> Tensor:
    table = np.full((len(rows), max(map(len, rows))), filler, dtype=np.int64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return torch.from_numpy(table)


def _outliers(job: Job, rows: _Rows) -> Tensor:
    """True at rows whose norm at any hook is above its limit, shape (n,)."""
    found = torch.zeros(len(rows.doc), dtype=torch.bool)
    if job.options.max_norm_multiple is None:
        return found
    assert job.norm_limits is not None, "`prepare` finds them"
    for name, limit in zip(job.names, job.norm_limits, strict=True):
        norms = rows.x[name].float().norm(dim=1)
        # A broken activation is reported, not filtered away.
        found |= (norms > limit) & norms.isfinite()
    return found


def _check_finite(x: Tensor, name: str, columns: TokenColumns, corpus: Corpus, dtype: str) -> None:
    stored = x.to(torch_dtype(dtype))
    # One pass without a copy; both ends are NaN where a number is.
    if stored.numel() == 0 or torch.stack(torch.aminmax(stored)).isfinite().all():
        return
    bad = (~stored.isfinite()).any(1).nonzero()
    row = int(bad[0])
    index = int(columns.doc[row])
    worst = stored[row][~stored[row].isfinite()][0].item()
    raise StoreError(
        f"the activation at {name} is {worst} in document {index} "
        f"({corpus[index].title or corpus[index].text[:40]!r}) at position {columns.pos[row]}, "
        f"stored as {dtype}; {len(bad):,} tokens of this group are affected. If the model is "
        "sound, its activations overflow float16: harvest with dtype=bfloat16 or float32"
    )
