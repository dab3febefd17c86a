"""How much of the activation the SAE gives back.

    fvu             = Σ‖x − x_hat‖² / Σ‖x − x̄‖²     x̄ the mean vector of the split
    nmse_uncentered = Σ‖x − x_hat‖² / Σ‖x‖²
    cosine          = mean over tokens of cos(x, x_hat)
    norm_ratio      = mean over tokens of ‖x_hat‖ / ‖x‖

Numerators and denominators are summed over the whole split in float64 and divided once (Gao et al.
2024, arXiv:2406.04093), never averaged as ratios of batches. The mean in fvu matters: with
activations far from the origin the uncentred ratio is small for any SAE, which is the mistake in
SAEBench's `explained_variance`.
"""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saetools.evaluate.base import METRICS, Figure, Findings, Measurement, Metric
from saetools.evaluate.bootstrap import Floats, ratio_stderr
from saetools.evaluate.context import EncodedBatch, MetricContext

__all__ = ["Reconstruction"]

_FVU = Figure(
    "fvu",
    "fraction of variance unexplained: 0 is perfect, 1 is no better than the mean vector",
    "lower",
    (0.0, math.inf),
)
_NMSE = Figure(
    "nmse_uncentered",
    "squared error over squared length, mean not removed; flatters when the mean is far from 0",
    "lower",
    (0.0, math.inf),
)
_COSINE = Figure("cosine", "mean cosine of x and x_hat", "higher", (-1.0, 1.0))
_NORM_RATIO = Figure(
    "norm_ratio",
    "mean of the length of x_hat over that of x; below 1 is shrinkage",
    "one",
    (0.0, math.inf),
)


@METRICS.register("reconstruction")
class Reconstruction(Metric):
    """Squared error, cosine and length of the reconstruction."""

    figures = (_FVU, _NMSE, _COSINE, _NORM_RATIO)

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; one `fvu_at_<width>` more for each narrower width of a Matryoshka SAE."""
        sums = _Sums(ctx)
        with torch.no_grad():
            for batch in ctx.batches():
                sums.add(batch)
        widths = ctx.sae.widths
        figures = [*(_at(width) for width in widths[:-1]), _FVU]
        fvus = [
            figure.measured(
                _ratio(sums.error[width].sum(), sums.variance),
                stderr=sums.stderr(sums.error[width], sums.square),
            )
            for figure, width in zip(figures, widths, strict=True)
        ]
        error = sums.error[widths[-1]]
        nmse = _NMSE.measured(
            _ratio(error.sum(), sums.raw_square.sum()), stderr=sums.stderr(error, sums.raw_square)
        )
        cosine, norm_ratio = (
            figure.measured(
                _ratio(values.sum(), sums.tokens.sum()), stderr=sums.stderr(values, sums.tokens)
            )
            for figure, values in ((_COSINE, sums.cosine), (_NORM_RATIO, sums.norm_ratio))
        )
        rows: list[Measurement] = [fvus[-1], *fvus[:-1], nmse, cosine, norm_ratio]
        return Findings(tuple(rows))


class _Sums:
    """Sums over the tokens of each document, all (n_docs,), float64.

    Squares are centred on a fixed vector near the mean, so that subtracting the exact mean at the
    end loses no digits.
    """

    def __init__(self, ctx: MetricContext) -> None:
        self._sae, self._seed = ctx.sae, ctx.seed
        self._centre = ctx.mean.to(ctx.sae.device)
        self._offset: Floats = np.zeros(ctx.sae.config.d_in)  # Σ(x − centre) over all tokens
        zeros = np.zeros(ctx.store.n_docs)
        self.tokens, self.square, self.raw_square = zeros, zeros.copy(), zeros.copy()
        self.cosine, self.norm_ratio = zeros.copy(), zeros.copy()
        self.error = {width: zeros.copy() for width in ctx.sae.widths}

    def add(self, batch: EncodedBatch) -> None:
        """Add a batch of tokens."""
        x, doc = batch.x, batch.doc
        for width, errors in self.error.items():
            x_hat = self._sae.decode(batch.latents.prefix(width))
            errors += self._by_doc((x - x_hat).square().sum(-1), doc)
        centred = x - self._centre
        self._offset += centred.sum(0, dtype=torch.float64).cpu().numpy()
        lengths, lengths_hat = x.norm(dim=-1), x_hat.norm(dim=-1)  # x_hat of the full width
        floor = torch.finfo(x.dtype).tiny
        cosine = (x * x_hat).sum(-1) / (lengths * lengths_hat).clamp_min(floor)
        self.tokens += self._by_doc(torch.ones_like(lengths), doc)
        self.square += self._by_doc(centred.square().sum(-1), doc)
        self.raw_square += self._by_doc(lengths.square(), doc)
        self.cosine += self._by_doc(cosine.clamp(-1.0, 1.0), doc)
        self.norm_ratio += self._by_doc(lengths_hat / lengths.clamp_min(floor), doc)

    @property
    def variance(self) -> float:
        """Σ‖x − x̄‖² with the exact mean of the split."""
        return float(self.square.sum() - self._offset @ self._offset / self.tokens.sum())

    def stderr(self, above: Floats, below: Floats) -> float:
        """Standard error of a ratio of sums, over the documents that were seen."""
        seen = self.tokens > 0
        return ratio_stderr(above[seen], below[seen], seed=self._seed)

    def _by_doc(self, values: Tensor, doc: npt.NDArray[np.int64]) -> Floats:
        weights = values.double().cpu().numpy()
        return np.bincount(doc, weights, minlength=len(self.tokens)).astype(np.float64)


def _at(width: int) -> Figure:
    meaning = f"fvu with the first {width} latents only"
    return replace(_FVU, name=f"fvu_at_{width}", meaning=meaning)


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan
