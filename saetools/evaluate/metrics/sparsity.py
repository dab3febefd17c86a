"""How many latents a token uses, and how the use is spread over the dictionary.

    l0             = mean number of active latents a token, with its quantiles
    dead_fraction  = share of latents that fire on no token of the split
    dense_fraction = share of latents that fire on more than a tenth of the tokens

A small split makes a rare latent look dead: the report says how many tokens were seen. A latent
counts as firing when its value is not 0, never because its index stands in an empty slot.
"""

import math

import numpy as np
import torch

from saetools.evaluate.base import METRICS, Curve, Figure, Findings, Metric
from saetools.evaluate.bootstrap import Floats, ratio_stderr
from saetools.evaluate.context import MetricContext

__all__ = ["Sparsity"]

_DENSE = 0.1
_BINS_PER_DECADE = 4

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

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; the curve `log10_firing_rate` counts live latents by firing rate."""
        n_latents = ctx.sae.config.n_latents
        fired = torch.zeros(n_latents, dtype=torch.float64, device=ctx.sae.device)
        l0_counts: Floats = np.zeros(n_latents + 1)  # tokens of each l0
        active, tokens = np.zeros(ctx.store.n_docs), np.zeros(ctx.store.n_docs)
        for batch in ctx.batches():
            slots = batch.latents.active
            fired += torch.bincount(batch.latents.indices[slots], minlength=n_latents)
            l0 = batch.latents.l0().cpu().numpy()
            l0_counts += np.bincount(l0, minlength=n_latents + 1)
            active += np.bincount(batch.doc, weights=l0, minlength=len(active))
            tokens += np.bincount(batch.doc, minlength=len(tokens))
        n_tokens = tokens.sum()
        rate = fired.cpu().numpy() / n_tokens
        seen = tokens > 0
        rows = (
            _L0.measured(
                active.sum() / n_tokens,
                stderr=ratio_stderr(active[seen], tokens[seen], seed=ctx.seed),
            ),
            *(
                figure.measured(_quantile(l0_counts, level / 100))
                for level, figure in _QUANTILES.items()
            ),
            _DEAD.measured(float((rate == 0).mean())),
            _DENSE_FRACTION.measured(float((rate > _DENSE).mean())),
            _TOKENS.measured(n_tokens),
        )
        return Findings(rows, (_histogram(rate, n_tokens),))


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
