"""How the rows of both matrices lie to each other; a property of the weights, so no data is read.

    decoder_max_cosine      = mean over latents of the greatest cosine with any other decoder row
    decoder_max_cosine_p99  = what 1 % of latents exceed
    duplicate_fraction      = share of latents for which it is above 0.95
    encoder_decoder_cosine  = mean over latents of cos(encoder row, decoder row)

Rows close to each other are one concept split in two, or one learned twice; SAEBench (Karvonen et
al. 2025, arXiv:2503.09532) reports both statistics. Random unit rows have a greatest cosine too,
about √(2 ln n_latents / d_in), so compare dictionaries of one size only.
A transcoder's rows lie in two spaces, so it has no encoder_decoder_cosine.

The standard errors say how much the means over this dictionary's latents would move if latents were
drawn anew; there are no documents here.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.evaluate.base import METRICS, Curve, Figure, Findings, Metric
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.context import MetricContext

__all__ = ["DecoderGeometry", "max_cosines"]

_DUPLICATE = 0.95
_BLOCK_COSINES = 8_000_000  # 32 MB in float32
_EDGES = np.linspace(-1.0, 1.0, 41)

_MAX = Figure(
    "decoder_max_cosine",
    "mean over latents of the greatest cosine with another decoder row",
    "lower",
    (-1.0, 1.0),
)
_MAX_P99 = Figure(
    "decoder_max_cosine_p99", "greatest cosine that 1 % of latents exceed", "lower", (-1.0, 1.0)
)
_DUPLICATES = Figure(
    "duplicate_fraction",
    "share of latents with a cosine above 0.95 to another decoder row",
    "lower",
    (0.0, 1.0),
)
_TIED = Figure(
    "encoder_decoder_cosine",
    "mean over latents of the cosine of encoder row and decoder row",
    "none",
    (-1.0, 1.0),
)


@METRICS.register("decoder_geometry")
class DecoderGeometry(Metric):
    """Greatest cosines among decoder rows, and of encoder rows with their decoder rows."""

    figures = (_MAX, _MAX_P99, _DUPLICATES, _TIED)
    one_hook = None

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; curves `decoder_max_cosine` and `encoder_decoder_cosine` count latents."""
        sae = ctx.sae
        with torch.no_grad():
            closest: Floats = max_cosines(sae.W_dec).double().cpu().numpy()
        rows = (
            _MAX.measured(closest.mean(), stderr=_stderr(closest)),
            _MAX_P99.measured(np.quantile(closest, 0.99)),
            _DUPLICATES.measured(
                (closest > _DUPLICATE).mean(), stderr=_stderr((closest > _DUPLICATE).astype(float))
            ),
        )
        if ctx.transcodes:
            why = f"encoder rows live at {ctx.hook_name}, decoder rows at {ctx.written}"
            return Findings(rows, (_curve(_MAX, closest),), left_out={_TIED.name: why})
        with torch.no_grad():
            cosines = torch.nn.functional.cosine_similarity(sae.W_enc_rows, sae.W_dec, dim=1)
        tied: Floats = cosines.clamp(-1.0, 1.0).double().cpu().numpy()
        tied_row = _TIED.measured(tied.mean(), stderr=_stderr(tied))
        return Findings((*rows, tied_row), (_curve(_MAX, closest), _curve(_TIED, tied)))


def max_cosines(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Greatest cosine of each row with any other, in blocks of at most 32 MB; NaN of a single row.

    All pairs are looked at, n² · d multiplications.
    """
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    n = len(unit)
    if n < 2:
        return torch.full((n,), math.nan)
    found = []
    size = max(1, _BLOCK_COSINES // n)
    for start in range(0, n, size):
        block = unit[start : start + size] @ unit.T  # (size, n)
        own = torch.arange(len(block), device=unit.device)
        block[own, own + start] = -math.inf
        found.append(block.amax(1))
    return torch.cat(found).clamp(-1.0, 1.0)


def _stderr(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _curve(figure: Figure, values: Floats) -> Curve:
    counts, _ = np.histogram(values, bins=_EDGES)
    return Curve(
        figure.name,
        f"number of latents by {figure.name.replace('_', ' ')}",
        tuple(_EDGES.tolist()),
        tuple(float(count) for count in counts),
    )
