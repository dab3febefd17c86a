"""The rows of a group of documents: forward passes, content tokens, document order."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saetools.corpus import Corpus
from saetools.errors import StoreError
from saetools.harvest.batching import Group, length_batches
from saetools.harvest.job import Job
from saetools.store import TokenColumns

__all__ = ["GroupRows", "read_group"]


class GroupRows(NamedTuple):
    """Content rows of the documents `first` to `first + len(counts)`, in order.

    activations (n, d_in) by hook; columns (n,); counts: rows of each document.
    """

    first: int
    activations: dict[str, Tensor]
    columns: TokenColumns
    counts: list[int]

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
        )


def read_group(job: Job, group: Group) -> GroupRows:
    """Run the model over a group of documents.

    Raises:
        StoreError: an activation is NaN or infinite in the precision of the store.
    """
    texts = [document.text for document in job.corpus[group.start : group.stop]]
    found: dict[int, tuple[dict[str, Tensor], Tensor, Tensor]] = {}
    for batch in length_batches(texts, batch_tokens=job.batch_tokens, ctx_len=job.ctx_len):
        tokens = job.model.tokenize([texts[i] for i in batch], ctx_len=job.ctx_len)
        activations = job.model.activations(tokens, job.names)
        content = tokens.content
        for place, index in enumerate(batch):
            keep = content[place].nonzero().squeeze(-1)
            kept = {name: activations[name][place, keep].cpu() for name in job.names}
            found[index] = (kept, tokens.ids[place, keep].cpu(), keep.cpu())
    order = range(len(texts))
    counts = [len(found[i][2]) for i in order]
    rows = GroupRows(
        group.start,
        {name: torch.cat([found[i][0][name] for i in order]) for name in job.names},
        TokenColumns(
            torch.cat([found[i][1] for i in order]).numpy().astype(np.int32),
            np.repeat(np.arange(group.start, group.stop, dtype=np.int32), counts),
            torch.cat([found[i][2] for i in order]).numpy().astype(np.int32),
        ),
        counts,
    )
    for name, x in rows.activations.items():
        _check_finite(x, name, rows.columns, job.corpus, job.dtype)
    return rows


def _check_finite(x: Tensor, name: str, columns: TokenColumns, corpus: Corpus, dtype: str) -> None:
    stored = x.to(getattr(torch, dtype))
    bad = (~stored.isfinite()).any(1).nonzero()
    if len(bad) == 0:
        return
    row = int(bad[0])
    index = int(columns.doc[row])
    worst = stored[row][~stored[row].isfinite()][0].item()
    raise StoreError(
        f"the activation at {name} is {worst} in document {index} "
        f"({corpus[index].title or corpus[index].text[:40]!r}) at position {columns.pos[row]}, "
        f"stored as {dtype}; {len(bad):,} tokens of this group are affected. If the model is "
        "sound, its activations overflow float16: harvest with dtype=bfloat16 or float32"
    )
