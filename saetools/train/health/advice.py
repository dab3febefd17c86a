"""When a figure of a health report is worth a warning, and what to do about it.

| figure | warned of | because |
|---|---|---|
| fvu | from 1; from 0.5 | at 1 the mean vector does as well |
| l0 | more than a tenth away from k | the threshold does not fit these rows |
| dead_fraction | above 0.1 | the dictionary is paid for and not used |
| dead_fraction of a Matryoshka level | above 0.25 | the same, for the latents of one level |
| dense_fraction | above 0.05, where l0 / n_latents is below 0.02 | dense latents say little |
| duplicate_fraction | above 0.02 | several latents share one direction |
| outliers of encoder or decoder norms | above 0.01 of the rows | unstable training |
| massive_fraction | above 0 | a few huge rows dominate the squared error |

The thresholds are rules of thumb of this project, not results of a paper.
"""

from collections.abc import Iterator

from saetools.train.health.report import MASSIVE, HealthReport

__all__ = ["advise"]

_FVU = 0.5
_L0 = 0.1
_DEAD = 0.1
_DEAD_LEVEL = 0.25
_DENSE, _SPARSE_USE = 0.05, 0.02
_DUPLICATE = 0.02
_NORMS = 0.01


def advise(report: HealthReport) -> tuple[str, ...]:
    """What looks wrong, in plain words, each with what to do."""
    return (
        *_reconstruction(report),
        *_use(report),
        *_levels(report),
        *_weights(report),
        *_activations(report),
    )


def _reconstruction(report: HealthReport) -> Iterator[str]:
    k = report.about.get("k")
    if report.fvu >= 1:
        yield (
            f"fvu {report.fvu:.3g}: the mean vector reconstructs these rows as well; train longer, "
            "with another train.lr, or check that SAE and store belong together"
        )
    elif report.fvu > _FVU:
        yield (
            f"fvu {report.fvu:.2f}: more than half of the variance is unexplained; raise sae.k or "
            "sae.n_latents, or train longer"
        )
    if isinstance(k, int) and abs(report.l0 - k) > _L0 * k:
        do = (
            "too few pre-activations are positive; train longer"
            if report.about.get("type") == "topk"
            else "calibrate the threshold on rows like these (saetools.train.calibrate)"
        )
        yield f"l0 {report.l0:.3g} where k is {k}: {do}"


def _use(report: HealthReport) -> Iterator[str]:
    if report.dead_fraction > _DEAD:
        yield (
            f"dead_fraction {report.dead_fraction:.2f}: these latents never fired on "
            f"{report.n_tokens:,} tokens; raise train.aux_coefficient, train longer, or take fewer "
            "latents (a latent that fires more rarely than these tokens can show looks dead too)"
        )
    if report.dense_fraction > _DENSE and report.l0 / report.n_latents < _SPARSE_USE:
        yield (
            f"dense_fraction {report.dense_fraction:.2f}: these latents fire on more than a tenth "
            "of the tokens; lower sae.k, or look for a few huge rows in the store"
        )


def _levels(report: HealthReport) -> Iterator[str]:
    start = 0
    for level in report.widths:
        if level.dead_fraction > _DEAD_LEVEL:
            yield (
                f"dead_fraction {level.dead_fraction:.2f} among latents {start:,} to "
                f"{level.width - 1:,}: this level of sae.widths is larger than it can use; make it "
                "narrower, or train longer"
            )
        start = level.width


def _weights(report: HealthReport) -> Iterator[str]:
    if report.duplicate_fraction > _DUPLICATE:
        yield (
            f"duplicate_fraction {report.duplicate_fraction:.2f}: these latents have another with "
            "nearly the same decoder row; take fewer latents, or a Matryoshka SAE"
        )
    for name, spread in (("encoder", report.encoder_norms), ("decoder", report.decoder_norms)):
        if spread.outlier_fraction > _NORMS:
            yield (
                f"{spread.outlier_fraction:.1%} of the {name} rows have a norm outside "
                f"{spread.low_fence:.3g} to {spread.high_fence:.3g} (median {spread.median:.3g}, "
                f"largest {spread.largest:.3g}): lower train.lr"
            )


def _activations(report: HealthReport) -> Iterator[str]:
    if report.massive_fraction > 0:
        norms = report.activation_norms
        yield (
            f"{report.massive_fraction:.2%} of the rows have a norm above {MASSIVE:.0f} medians "
            f"(the largest {norms.largest / norms.median:.0f}): they dominate the squared error; "
            f"harvest with harvest.max_norm_multiple={MASSIVE:.0f}"
        )
