"""How much of the dictionary other seeds find again.

Decoder rows are matched one to one with those of each twin, an SAE of another seed on the same
store, and the cosines of partners averaged (`saetools.train.stability`; Paulo & Belrose 2025,
arXiv:2501.16615). Mean over twins:

    stability           mean cosine of partners; 1 is the same dictionary
    stability_70, _90   share of latents whose partner has a cosine above 0.7, 0.9
    stability_floor     the mean cosine of this dictionary with random directions

All 0 to 1 (cosines could be negative in theory), higher is better. Dead latents count: those that
training never moved agree with nothing. The floor is not 0, the more so in few dimensions: the
best of many random rows is similar by chance. Agreement does not say that a latent means anything.
Errors: over latents, by resampling them; there are no documents in it.
"""

import numpy as np
import torch

from saetools.evaluate.base import METRICS, Figure, Findings, Metric, Table
from saetools.evaluate.bootstrap import mean_stderr
from saetools.evaluate.context import MetricContext
from saetools.train import matched_cosines

__all__ = ["FeatureStability"]

_STABILITY = Figure(
    "stability", "mean cosine of decoder rows with their partners in twins", "higher", (-1.0, 1.0)
)
_ABOVE = {
    level: Figure(
        f"stability_{level}",
        f"share of latents with a partner of cosine above 0.{level // 10}",
        "higher",
        (0.0, 1.0),
    )
    for level in (70, 90)
}
_FLOOR = Figure(
    "stability_floor", "the same cosine with random directions in the twin's place", "none",
    (-1.0, 1.0),
)  # fmt: skip


@METRICS.register("stability")
class FeatureStability(Metric):
    """Agreement of the decoder with SAEs of other seeds, and with chance."""

    figures = (_STABILITY, *_ABOVE.values(), _FLOOR)
    one_hook = None

    def missing(self, ctx: MetricContext) -> str | None:
        """Say that it needs SAEs to compare with."""
        if not ctx.twins:
            return "it compares with SAEs of other seeds; give evaluate.twins=[RUN,...] or twins="
        return None

    def compute(self, ctx: MetricContext) -> Findings:
        """Match with each twin; the table `stability` has a row for each."""
        rows = ctx.sae.W_dec.detach()
        found = [matched_cosines(rows, twin.W_dec.detach()) for twin in ctx.twins]
        # Not torch with the seed itself, which may well have made the first weights of this SAE.
        random = np.random.default_rng([ctx.seed, 0xF1]).standard_normal(tuple(rows.shape))
        floor = matched_cosines(rows, torch.as_tensor(random)).double().numpy()
        cosines = np.concatenate([cosine.double().numpy() for cosine in found])
        measured = {
            _STABILITY: cosines,
            **{figure: (cosines > level / 100) * 1.0 for level, figure in _ABOVE.items()},
            _FLOOR: floor,
        }
        figures = [
            figure.measured(values.mean(), stderr=mean_stderr(values, seed=ctx.seed))
            for figure, values in measured.items()
        ]
        table = Table(
            "stability",
            "each twin: its seed if known, latents matched, mean cosine, share above 0.7",
            ("twin", "n_matched", "mean_cosine", "matched_fraction_70"),
            tuple(
                (
                    _name(twin.meta, i),
                    float(len(cosine)),
                    float(cosine.double().mean()),
                    float((cosine > 0.7).double().mean()),
                )
                for i, (twin, cosine) in enumerate(zip(ctx.twins, found, strict=True))
            ),
        )
        return Findings(tuple(figures), tables=(table,))


def _name(meta: dict[str, object], place: int) -> str:
    identity = meta.get("identity")
    train = identity.get("train", {}) if isinstance(identity, dict) else {}
    seed = train.get("init_seed") if train.get("init_seed") is not None else train.get("seed")
    return f"twin {place + 1}" if seed is None else f"seed {seed}"
