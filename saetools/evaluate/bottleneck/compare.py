"""What reading by named latents costs: the bottleneck against a head on raw activations.

Same texts, same solver, same way to choose the penalty; all figures are from held-out documents,
with intervals over documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saetools.errors import ConfigError, ShapeError
from saetools.evaluate.bootstrap import Floats, interval, resample
from saetools.evaluate.bottleneck.bottleneck import ConceptBottleneck, fit_latents
from saetools.evaluate.bottleneck.heads import Head, classes_of, fit_path
from saetools.evaluate.bottleneck.show import comparison_html
from saetools.evaluate.concept_search import TextFeatures
from saetools.repro import write_json

__all__ = ["HeadComparison", "HeadScore", "compare_heads"]

_N_DRAWS = 400


@dataclass(frozen=True)
class HeadScore:
    """A head on held-out documents; higher is better, intervals are 95 % over documents.

    Args:
        n_units: latents, or dimensions of the activation, that it reads.
        accuracy: share of documents whose class is told.
        balanced: mean over classes of that share, so that small classes count as much.
    """

    n_units: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    balanced: float
    balanced_low: float
    balanced_high: float


@dataclass(frozen=True, repr=False)
class HeadComparison:
    """The bottleneck beside the raw head.

    Args:
        bottleneck: the classifier; its named latents are all that it reads.
        latents, raw: scores of the bottleneck and of the head on mean raw activations.
        difference: accuracy of `latents` less that of `raw`, and its 95 % interval.
        majority: accuracy of always saying the most frequent class.
        curve, raw_curve: scores of sparser heads of either kind, the sparsest first.
        n_train, n_held_out: documents.
    """

    bottleneck: ConceptBottleneck
    latents: HeadScore
    raw: HeadScore
    difference: tuple[float, float, float]
    majority: float
    curve: tuple[HeadScore, ...]
    raw_curve: tuple[HeadScore, ...]
    n_train: int
    n_held_out: int

    @property
    def verdict(self) -> str:
        """Whether the bottleneck costs accuracy, in one sentence."""
        gap, low, high = self.difference
        spelled = f"held-out accuracy {self.latents.accuracy:.3f} against {self.raw.accuracy:.3f}"
        if high < 0:
            return (
                f"The raw head beats the bottleneck: {spelled}, {-gap:.3f} more "
                f"[{-high:.3f}, {-low:.3f}]."
            )
        if low > 0:
            return (
                f"The bottleneck beats the raw head: {spelled}, {gap:.3f} more "
                f"[{low:.3f}, {high:.3f}]."
            )
        return (
            f"These documents show no difference between bottleneck and raw head: {spelled} "
            f"[{low:+.3f}, {high:+.3f}]."
        )

    def __repr__(self) -> str:
        return f"HeadComparison({self.bottleneck!r}: {self.verdict})"

    def _repr_html_(self) -> str:
        return comparison_html(self)

    def save(self, path: str | Path) -> Path:
        """Write the figures as JSON; the classifier has its own `save`."""
        return write_json(
            path,
            {
                "format": "saetools-bottleneck-report/1",
                "verdict": self.verdict,
                "n_train": self.n_train,
                "n_held_out": self.n_held_out,
                "n_classes": len(self.bottleneck.classes),
                "majority": self.majority,
                "difference": self.difference,
                "latents": asdict(self.latents),
                "raw": asdict(self.raw),
                "curve": [asdict(score) for score in self.curve],
                "raw_curve": [asdict(score) for score in self.raw_curve],
            },
        )


def compare_heads(
    features: TextFeatures,
    labels: Sequence[str],
    *,
    held_out: npt.NDArray[np.bool_],
    names: Mapping[int, str] | None = None,
    seed: int = 0,
) -> HeadComparison:
    """Fit a bottleneck and a raw head on the same texts, and score both on the held-out ones.

    Args:
        features: pooled texts.
        labels: class of each text.
        held_out: which texts are kept for scoring, (n,).
        names: names of latents; only those that have one are used. None: all are.
        seed: of the choice of penalties and the resamples.

    Raises:
        ConfigError: a class has fewer than four texts to learn from, or nothing is held out.
    """
    if not len(features) == len(labels) == len(held_out):
        raise ShapeError(
            f"{len(features)} texts, {len(labels)} labels and {len(held_out)} marks of which are "
            "held out; give each text one"
        )
    test, train = np.flatnonzero(held_out).tolist(), np.flatnonzero(~held_out).tolist()
    if not len(test):
        raise ConfigError("no text is held out to score the bottleneck on; keep a fifth of them")
    named = [labels[i] for i in train]
    classes, of_class = classes_of(named)
    unseen = sorted({labels[i] for i in test} - set(classes))
    if unseen:
        raise ConfigError(f"held-out texts of {', '.join(unseen[:5])}, and none to learn from")
    learn, ask = features.take(~held_out), features.take(held_out)
    by_latents = fit_latents(learn, named, names=names, seed=seed)
    by_raw = fit_path(learn.x, of_class, n_classes=len(classes), seed=seed)
    truth = np.array([classes.index(labels[i]) for i in test])
    weights = np.vstack([np.ones(len(test)), resample(len(test), seed=seed, n_draws=_N_DRAWS)])

    def scored(heads: Sequence[Head], x: object) -> list[tuple[HeadScore, Floats]]:
        return [_score(head, x, truth, weights) for head in heads]

    curve, raw_curve = scored(by_latents.heads, ask.latents), scored(by_raw.heads, ask.x)
    gap = curve[-1][1] - raw_curve[-1][1]
    return HeadComparison(
        bottleneck=ConceptBottleneck.of_path(by_latents, learn, named, names=names),
        latents=curve[-1][0],
        raw=raw_curve[-1][0],
        difference=(float(gap[0]), *interval(gap[1:])),
        majority=float((truth == np.bincount(of_class).argmax()).mean()),
        curve=tuple(score for score, _ in curve),
        raw_curve=tuple(score for score, _ in raw_curve),
        n_train=len(train),
        n_held_out=len(test),
    )


def _score(
    head: Head, x: object, truth: npt.NDArray[np.int64], weights: Floats
) -> tuple[HeadScore, Floats]:
    """Scores of a head, and its accuracy in each draw of the documents."""
    right = (head.logits(x).argmax(1) == truth).astype(np.float64)
    accuracy = (weights @ right) / weights.sum(1)
    member = (truth[:, None] == np.unique(truth)).astype(np.float64)
    drawn = weights @ member
    with np.errstate(invalid="ignore", divide="ignore"):  # a class that a draw leaves out
        balanced = np.nanmean((weights * right) @ member / drawn, axis=1)
    return HeadScore(
        len(head.units),
        float(accuracy[0]),
        *interval(accuracy[1:]),
        float(balanced[0]),
        *interval(balanced[1:]),
    ), accuracy
