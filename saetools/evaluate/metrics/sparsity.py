"""How many latents a token uses, and how the use is spread over the dictionary.

    l0             = mean number of active latents a token, with its quantiles
    dead_fraction  = share of latents that fire on no token of the split
    dense_fraction = share of latents that fire on more than a tenth of the tokens

A small split makes a rare latent look dead: the report says how many tokens were seen. A latent
counts as firing when its value is not 0, never because its index stands in an empty slot.

For each narrower width of a Matryoshka SAE every figure but the number of tokens, and the
histogram, come once more of the first latents alone, as `<name>_at_<width>`: a first group that is
dense buys a low hole rate cheaply (Matryoshka: Bussmann et al. 2025, arXiv:2503.17547).

Standard errors are over documents: of l0 by drawing them anew, of the others by leaving out one of
32 groups of them at a time.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from saetools.evaluate.base import METRICS, Curve, Figure, Findings, Measurement, Metric
from saetools.evaluate.bootstrap import Floats, jackknife_stderr, ratio_stderr
from saetools.evaluate.context import EncodedBatch, MetricContext

__all__ = ["Sparsity"]

Ints = npt.NDArray[np.int64]

_DENSE = 0.1
_BINS_PER_DECADE = 4
_N_GROUPS = 32

_L0 = Figure("l0", "mean number of active latents a token", "none", (0.0, math.inf))
_QUANTILES = {
    level: Figure(
        f"l0_p{level}", f"{level} % of tokens have at most this l0", "none", (0.0, math.inf)
    )
    for level in (10, 50, 90)
}
_DEAD = Figure(
    "dead_fraction", "share of latents that never fired on the split", "lower", (0.0, 1.0)
)
_DENSE_FRACTION = Figure(
    "dense_fraction", "share of latents that fired on more than 10 % of tokens", "lower", (0.0, 1.0)
)
_TOKENS = Figure("n_tokens", "tokens of the split", "none", (0.0, math.inf))


@METRICS.register("sparsity")
class Sparsity(Metric):
    """Active latents a token, dead and dense latents, and the histogram of firing rates."""

    figures = (_L0, *_QUANTILES.values(), _DEAD, _DENSE_FRACTION, _TOKENS)
    one_hook = None

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; the curve `log10_firing_rate` counts live latents by firing rate."""
        n_latents = ctx.sae.config.n_latents
        group = np.zeros(ctx.store.n_docs, dtype=np.int64)
        group[ctx.docs] = np.arange(len(ctx.docs)) % _N_GROUPS
        n_groups = min(_N_GROUPS, len(ctx.docs))
        fired: Floats = np.zeros((n_groups, n_latents))
        tokens: Floats = np.zeros(ctx.store.n_docs)
        uses = {width: _Use(width, group, n_groups) for width in ctx.sae.widths}
        for batch in ctx.batches():
            _count(fired, batch, group)
            tokens += np.bincount(batch.doc, minlength=len(tokens))
            for use in uses.values():
                use.add(batch)
        n_tokens = float(tokens.sum())
        rate: Floats = fired.sum(0) / n_tokens
        rows = [*uses[n_latents].measured(fired, tokens, seed=ctx.seed), _TOKENS.measured(n_tokens)]
        curves = [_histogram(rate, n_tokens)]
        for width in ctx.sae.widths[:-1]:
            use = uses[width]
            rows += (
                _at(row, width) for row in use.measured(fired[:, :width], tokens, seed=ctx.seed)
            )
            curve = _histogram(rate[:width], n_tokens)
            curves.append(replace(curve, name=f"{curve.name}_at_{width}"))
        return Findings(tuple(rows), tuple(curves))


class _Use:
    """Active latents below a width: tokens of each l0 by group, and their sum by document."""

    def __init__(self, width: int, group: Ints, n_groups: int) -> None:
        self._width, self._group = width, group
        self._counts: Floats = np.zeros((n_groups, width + 1))
        self._active: Floats = np.zeros(len(group))

    def add(self, batch: EncodedBatch) -> None:
        """Add a batch of tokens."""
        l0 = batch.latents.prefix(self._width).l0().cpu().numpy()
        np.add.at(self._counts, (self._group[batch.doc], l0), 1.0)
        self._active += np.bincount(batch.doc, weights=l0, minlength=len(self._active))

    def measured(self, fired: Floats, tokens: Floats, *, seed: int) -> Iterator[Measurement]:
        """The figures, given how often these latents fired in each group, and each doc's tokens."""
        seen = tokens > 0
        yield _L0.measured(
            self._active.sum() / tokens.sum(),
            stderr=ratio_stderr(self._active[seen], tokens[seen], seed=seed),
        )
        for level, figure in _QUANTILES.items():
            quantile = partial(_quantile, share=level / 100)
            yield _with_error(figure, quantile, self._counts)
        n_tokens = self._counts.sum(1, keepdims=True)
        both = np.concatenate([fired, n_tokens], axis=1)
        yield _with_error(_DEAD, lambda sums: float((sums[:-1] == 0).mean()), both)
        yield _with_error(
            _DENSE_FRACTION, lambda sums: float((sums[:-1] > _DENSE * sums[-1]).mean()), both
        )


def _with_error(figure: Figure, of: Callable[[Floats], float], groups: Floats) -> Measurement:
    """A figure of sums over groups (n_groups, m), and its error by leaving out one at a time."""
    whole = groups.sum(0)
    without = np.array([of(whole - part) for part in groups])
    return figure.measured(of(whole), stderr=jackknife_stderr(without))


def _count(fired: Floats, batch: EncodedBatch, group: Ints) -> None:
    """Add how often each latent fires in the documents of each group."""
    slots = batch.latents.active.cpu().numpy()
    latent = batch.latents.indices.cpu().numpy()[slots]
    row = np.broadcast_to(group[batch.doc][:, None], slots.shape)[slots]
    cells = row * fired.shape[1] + latent
    fired += np.bincount(cells, minlength=fired.size).reshape(fired.shape)


def _quantile(counts: Floats, share: float) -> float:
    """Smallest value that at least `share` of the tokens do not exceed."""
    return float(np.searchsorted(np.cumsum(counts), share * counts.sum()))


def _histogram(rate: Floats, n_tokens: float) -> Curve:
    """Live latents by log10 of their firing rate, from one token of the split to every token."""
    decades = max(1, math.ceil(math.log10(max(n_tokens, 10.0))))
    edges = np.linspace(-decades, 0.0, decades * _BINS_PER_DECADE + 1)
    counts, _ = np.histogram(np.log10(rate[rate > 0]), bins=edges)
    return Curve(
        "log10_firing_rate",
        "number of live latents by log10 of the share of tokens on which they fire",
        tuple(edges.tolist()),
        tuple(float(count) for count in counts),
    )


def _at(row: Measurement, width: int) -> Measurement:
    meaning = f"{row.figure.name} among the first {width} latents only"
    return replace(
        row, figure=replace(row.figure, name=f"{row.figure.name}_at_{width}", meaning=meaning)
    )
