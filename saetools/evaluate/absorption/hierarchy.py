"""Absorption in a planted hierarchy: is a parent's latent silent where one of its children is on?

The parent plays the part that the letter plays in the first-letter task, and rows on which a child
is on that of the words. Probe and latents of each parent are fitted on documents that are not
measured on: the training ones where held-out ones are measured, else a half of the split.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saetools.corpus import ConceptLabels, Family
from saetools.evaluate.absorption.reading import fit_reading
from saetools.evaluate.absorption.tally import MIN_ITEMS, Tally
from saetools.evaluate.context import MetricContext
from saetools.types import SparseLatents

__all__ = ["hierarchy_tally"]

_FIT_ROWS = 16_384
_ENCODE_ROWS = 4096

Ints = npt.NDArray[np.int64]


class _Fit(NamedTuple):
    """Rows that readings are fitted on: activations, latents, and their rows in the store."""

    x: Tensor
    latents: SparseLatents
    row: Ints


def hierarchy_tally(ctx: MetricContext, labels: ConceptLabels) -> Tally:
    """Measure every parent that is on, and off, at least 20 times in the rows to fit on."""
    fit_docs, test_docs = _docs(ctx)
    fit = _fit_rows(ctx, fit_docs, labels)
    families = [
        family
        for family in labels.families
        if MIN_ITEMS <= int(labels.on[fit.row, family.parent].sum()) <= len(fit.row) - MIN_ITEMS
    ]
    with torch.no_grad():
        readings = tuple(
            fit_reading(fit.x, fit.latents, labels.on[fit.row, family.parent], seed=ctx.seed)
            for family in families
        )
        names = tuple(labels.names[family.parent] for family in families)
        tally = Tally(readings, names, ctx.store.n_docs)
        _measure(ctx, labels, families, test_docs, tally)
    return tally


def _measure(
    ctx: MetricContext, labels: ConceptLabels, families: list[Family], docs: Ints, tally: Tally
) -> None:
    W_dec = ctx.sae.W_dec.detach()
    for batch in ctx.batches():
        wanted = np.isin(batch.doc, docs)
        on = labels.on[batch.row] & wanted[:, None]  # (n, n_concepts)
        for concept, (family, reading) in enumerate(zip(families, tally.readings, strict=True)):
            said = (reading.scores(batch.x) > 0).cpu().numpy()
            tally.see(concept, said[wanted], on[wanted, family.parent])
            rows = np.flatnonzero(on[:, list(family.children)].any(1))
            if len(rows):
                picked = torch.as_tensor(rows, device=batch.x.device)
                latents = batch.latents
                part = SparseLatents(
                    latents.values[picked], latents.indices[picked], latents.n_latents
                )
                items = reading.items(batch.x[picked], part, W_dec)
                tally.add(concept, batch.doc[rows], items)


def _docs(ctx: MetricContext) -> tuple[Ints, Ints]:
    """Documents to fit on and to measure on, apart from each other, in an order of the seed."""
    rng = np.random.default_rng([ctx.seed, 0xAB50])
    if ctx.split == "held_out":
        spans = np.asarray(ctx.store.doc_spans)
        train = np.flatnonzero(~np.asarray(ctx.store.held_out) & (spans[:, 1] > spans[:, 0]))
        if len(train):
            return rng.permutation(train), ctx.docs
    mixed = rng.permutation(ctx.docs)
    half = len(mixed) // 2
    return mixed[:half], np.sort(mixed[half:])


def _fit_rows(ctx: MetricContext, docs: Ints, labels: ConceptLabels) -> _Fit:
    """Rows of the first documents, up to a budget; half of it for documents that hold a parent."""
    spans = np.asarray(ctx.store.doc_spans)
    parents = [family.parent for family in labels.families]
    holds = np.array([labels.on[slice(*spans[doc])][:, parents].any() for doc in docs], bool)
    sizes = spans[docs, 1] - spans[docs, 0]
    with_parent = np.cumsum(np.where(holds, sizes, 0)) <= _FIT_ROWS // 2
    chosen = holds & with_parent
    room = _FIT_ROWS - int(sizes[chosen].sum())
    chosen |= ~chosen & (np.cumsum(np.where(chosen, 0, sizes)) <= room)
    taken = docs[chosen] if chosen.any() else docs[:1]
    rows = np.concatenate([np.arange(*spans[doc]) for doc in taken] or [np.arange(0)])
    x = torch.cat(
        [ctx.store.rows(*spans[doc], hook_name=ctx.hook_name) for doc in taken]
        or [torch.zeros(0, ctx.sae.config.d_in)]
    ).to(ctx.sae.device)
    with torch.no_grad():
        parts = [
            ctx.sae.encode(x[start : start + _ENCODE_ROWS])
            for start in range(0, max(len(x), 1), _ENCODE_ROWS)
        ]
    return _Fit(x, SparseLatents.joined(parts), rows.astype(np.int64))
