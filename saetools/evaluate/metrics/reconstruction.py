"""How much of the activation the SAE gives back.

    fvu                   = Σ‖x − x_hat‖² / Σ‖x − x̄‖²               x̄ the mean vector of the split
    fvu_residual_variance = Σ‖r − r̄‖² / Σ‖x − x̄‖²                   r = x − x_hat
    fvu_by_token          = mean over tokens of ‖x − x_hat‖² / ‖x − m‖²    m the mean of the store
    nmse_uncentered       = Σ‖x − x_hat‖² / Σ‖x‖²
    cosine                = mean over tokens of cos(x, x_hat)
    norm_ratio            = mean over tokens of ‖x_hat‖ / ‖x‖
    reconstruction_bias   = Σ‖x_hat‖² / Σ x·x_hat                      (Rajamanoharan et al. 2024,
                            arXiv:2404.16014, eq. 10)

Numerators and denominators are summed over the whole split in float64 and divided once (Gao et al.
2024, arXiv:2406.04093), never averaged as ratios of batches; `fvu_by_token` is the one mean of
ratios, and says so in its name. Quote `fvu`. The others are here to be compared with what other
libraries print:

- 1 − fvu_residual_variance is dictionary_learning's `frac_variance_explained` over all rows at once
  (theirs is a mean over batches). A constant error costs nothing there.
- 1 − fvu_by_token is SAEBench's `explained_variance_legacy`, but for its mean, which is that of a
  batch. Tokens near the mean weigh most.
- SAEBench's newer `explained_variance` squares before it averages, so that the mean stays in the
  denominator: it comes out near 1 − nmse_uncentered, for any SAE, where activations lie far from
  the origin (Karvonen et al. 2025, arXiv:2503.09532; read in its code). It is a defect and has no
  name here.

For a transcoder x is the activation that it writes, and x_hat what it makes of the one it reads.

For each narrower width of a Matryoshka SAE every figure comes once more, as `<figure>_at_<width>`.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saetools.evaluate.base import METRICS, Figure, Findings, Measurement, Metric
from saetools.evaluate.bootstrap import Floats, ratio_stderr
from saetools.evaluate.context import EncodedBatch, MetricContext

__all__ = ["Reconstruction"]

_FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "fvu",
            "fraction of variance unexplained: 0 is perfect, 1 is no better than the mean vector",
            "lower",
            (0.0, math.inf),
        ),
        Figure(
            "fvu_residual_variance",
            "variance of the error over that of x; a constant error costs nothing",
            "lower",
            (0.0, math.inf),
        ),
        Figure(
            "fvu_by_token",
            "mean over tokens of each one's own fvu; tokens near the mean weigh most",
            "lower",
            (0.0, math.inf),
        ),
        Figure(
            "nmse_uncentered",
            "squared error over squared length, mean not removed; flatters when the mean is far "
            "from 0",
            "lower",
            (0.0, math.inf),
        ),
        Figure("cosine", "mean cosine of x and x_hat", "higher", (-1.0, 1.0)),
        Figure(
            "norm_ratio",
            "mean of the length of x_hat over that of x; below 1 is shrinkage",
            "one",
            (0.0, math.inf),
        ),
        Figure(
            "reconstruction_bias",
            "squared length of x_hat over its product with x; below 1 is shrinkage",
            "one",
            (-math.inf, math.inf),
        ),
    )
}


@METRICS.register("reconstruction")
class Reconstruction(Metric):
    """Squared error, cosine and length of the reconstruction."""

    figures = tuple(_FIGURES.values())
    one_hook = None

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; every figure once more for each narrower width of a Matryoshka SAE."""
        rows = _Rows(ctx)
        sums = {width: _WidthSums(ctx) for width in ctx.sae.widths}
        with torch.no_grad():
            for batch in ctx.batches():
                rows.add(batch)
                for width, found in sums.items():
                    x_hat = ctx.sae.reconstruct(batch.latents.prefix(width), batch.x)
                    found.add(batch, x_hat)
        *narrower, whole = ctx.sae.widths
        measured = list(_measured(rows, sums[whole], seed=ctx.seed))
        for width in narrower:
            measured += (
                replace(row, figure=_at(row.figure, width))
                for row in _measured(rows, sums[width], seed=ctx.seed)
            )
        return Findings(tuple(measured))


class _Rows:
    """What the rows themselves add up to, by document (n_docs,), float64.

    Squares are centred on a fixed vector near the mean, so that subtracting the exact mean at the
    end loses no digits.
    """

    def __init__(self, ctx: MetricContext) -> None:
        self._centre = ctx.mean.to(ctx.sae.device)
        self._offset: Floats = np.zeros(ctx.sae.d_out)  # Σ(x − centre) over all tokens
        self.tokens, self.square, self.raw_square = (np.zeros(ctx.store.n_docs) for _ in range(3))

    def add(self, batch: EncodedBatch) -> None:
        """Add a batch of tokens."""
        centred = batch.target - self._centre
        self._offset += _column_sums(centred)
        self.tokens += np.bincount(batch.doc, minlength=len(self.tokens))
        self.square += _by_doc(centred.square().sum(-1), batch.doc, len(self.tokens))
        self.raw_square += _by_doc(batch.target.square().sum(-1), batch.doc, len(self.tokens))

    @property
    def variance(self) -> float:
        """Σ‖x − x̄‖² with the exact mean of the split."""
        return float(self.square.sum() - self._offset @ self._offset / self.tokens.sum())


class _WidthSums:
    """What rows and their reconstructions add up to, by document (n_docs,), float64."""

    def __init__(self, ctx: MetricContext) -> None:
        self._centre = ctx.mean.to(ctx.sae.device)
        self.residual: Floats = np.zeros(ctx.sae.d_out)  # Σ(x − x_hat) over all tokens
        names = ("error", "error_share", "cosine", "norm_ratio", "product", "square_hat")
        self.by_doc = {name: np.zeros(ctx.store.n_docs) for name in names}

    def add(self, batch: EncodedBatch, x_hat: Tensor) -> None:
        """Add a batch of tokens and their reconstructions."""
        x = batch.target
        tiny = torch.finfo(x.dtype).tiny
        error = (x - x_hat).square().sum(-1)
        product = (x * x_hat).sum(-1)
        lengths, lengths_hat = x.norm(dim=-1), x_hat.norm(dim=-1)
        self.residual += _column_sums(x - x_hat)
        by_token = {
            "error": error,
            "error_share": error / (x - self._centre).square().sum(-1).clamp_min(tiny),
            "cosine": (product / (lengths * lengths_hat).clamp_min(tiny)).clamp(-1.0, 1.0),
            "norm_ratio": lengths_hat / lengths.clamp_min(tiny),
            "product": product,
            "square_hat": lengths_hat.square(),
        }
        for name, values in by_token.items():
            self.by_doc[name] += _by_doc(values, batch.doc, len(self.by_doc[name]))


def _measured(rows: _Rows, sums: _WidthSums, *, seed: int) -> Iterator[Measurement]:
    """The figures of one width, in the order in which they are declared."""
    found, n_tokens = sums.by_doc, rows.tokens.sum()
    constant = float(sums.residual @ sums.residual) / n_tokens  # Σ‖r̄‖², of an error that stays
    # The mean vectors stay as they are when documents are drawn anew: a second-order effect.
    parts: dict[str, tuple[float, float, Floats, Floats]] = {
        "fvu": (found["error"].sum(), rows.variance, found["error"], rows.square),
        "fvu_residual_variance": (
            max(found["error"].sum() - constant, 0.0),
            rows.variance,
            found["error"] - constant * rows.tokens / n_tokens,
            rows.square,
        ),
    }
    for name, above, below in (
        ("fvu_by_token", found["error_share"], rows.tokens),
        ("nmse_uncentered", found["error"], rows.raw_square),
        ("cosine", found["cosine"], rows.tokens),
        ("norm_ratio", found["norm_ratio"], rows.tokens),
        ("reconstruction_bias", found["square_hat"], found["product"]),
    ):
        parts[name] = (above.sum(), below.sum(), above, below)
    seen = rows.tokens > 0
    for name, figure in _FIGURES.items():
        above_sum, below_sum, above, below = parts[name]
        value = above_sum / below_sum if below_sum != 0 else math.nan
        yield figure.measured(value, stderr=ratio_stderr(above[seen], below[seen], seed=seed))


def _column_sums(x: Tensor) -> Floats:
    sums: Floats = x.sum(0, dtype=torch.float64).cpu().numpy()
    return sums


def _by_doc(values: Tensor, doc: npt.NDArray[np.int64], n_docs: int) -> Floats:
    weights = values.double().cpu().numpy()
    return np.bincount(doc, weights, minlength=n_docs).astype(np.float64)


def _at(figure: Figure, width: int) -> Figure:
    meaning = f"{figure.name} with the first {width} latents only"
    return replace(figure, name=f"{figure.name}_at_{width}", meaning=meaning)
