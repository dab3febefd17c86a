"""From vectors of documents to figures: fresh probes for each condition and place.

Everything is learned on the sample's train documents and measured on its held-out ones.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from saetools.evaluate.ablation.collect import Representation, Rows
from saetools.evaluate.ablation.probes import (
    Resamples,
    fit_concept_probe,
    fit_label_probe,
)
from saetools.evaluate.ablation.report import Condition, Place, ProbeRow
from saetools.evaluate.ablation.sample import Sample
from saetools.evaluate.bootstrap import Estimate, Floats, interval

__all__ = ["PLACES", "measure"]

PLACES: tuple[Place, ...] = ("final", "hook")


def measure(
    sample: Sample, seen: Mapping[Condition, Representation], *, n_draws: int, seed: int
) -> list[ProbeRow]:
    """All figures of the experiment; `seen` starts with the clean condition."""
    resamples = Resamples(sample.concept[sample.held_out], n_draws=n_draws, seed=seed)
    rows: list[ProbeRow] = []
    # The products are small: a second thread costs more than it gives, many times more where
    # another process wants the core.
    with threadpool_limits(limits=1):
        for place in PLACES:
            vectors = {condition: getattr(seen[condition], place) for condition in seen}
            rows += _at_place(place, sample, resamples, vectors, seed)
    return rows


def _at_place(
    place: Place,
    sample: Sample,
    resamples: Resamples,
    vectors: Mapping[Condition, Rows],
    seed: int,
) -> list[ProbeRow]:
    train, held = ~sample.held_out, sample.held_out
    probes = {
        condition: fit_concept_probe(x[train], sample.concept[train], seed=seed)
        for condition, x in vectors.items()
    }
    aurocs = {
        condition: resamples.auroc(_scores(probes[condition], x[held]))
        for condition, x in vectors.items()
    }
    rows: list[ProbeRow] = []
    for condition, x in vectors.items():
        found = {"auroc": aurocs[condition]}
        found |= _one_condition(sample, resamples, x, probes[condition])
        if condition != "clean":
            found["auroc_drop"] = aurocs["clean"] - aurocs[condition]
            found |= _against_clean(sample, resamples, x, vectors["clean"], probes["clean"])
        if condition == "ablated" and "control" in aurocs:
            found["auroc_beyond_control"] = aurocs["control"] - aurocs["ablated"]
        rows += [_row(condition, place, name, value) for name, value in found.items()]
    return rows


def _one_condition(
    sample: Sample, resamples: Resamples, x: Rows, probe: Pipeline
) -> dict[str, Estimate]:
    held = x[sample.held_out]
    found = {"balanced_accuracy": resamples.balanced_accuracy(_scores(probe, held))}
    listed = np.isin(sample.label, sample.other_labels) & ~sample.concept
    train, test = listed & ~sample.held_out, listed[sample.held_out]
    if len(np.unique(sample.label[train])) > 1 and test.any():
        guess = fit_label_probe(x[train], sample.label[train]).predict(held)
        right = (guess == sample.label[sample.held_out]).astype(np.float64)
        found["other_labels_accuracy"] = resamples.mean(right, test)
    return found


def _against_clean(
    sample: Sample, resamples: Resamples, x: Rows, clean: Rows, clean_probe: Pipeline
) -> dict[str, Estimate]:
    """What the clean condition's probe reads here, and how far the vectors have moved."""
    held = x[sample.held_out]
    scores = _scores(clean_probe, held)
    cosine = _cosines(held, clean[sample.held_out])
    concept = sample.concept[sample.held_out]
    return {
        "transfer_auroc": resamples.auroc(scores),
        "transfer_balanced_accuracy": resamples.balanced_accuracy(scores),
        "cosine_concept": resamples.mean(cosine, concept),
        "cosine_other": resamples.mean(cosine, ~concept),
    }


def _scores(probe: Pipeline, x: Rows) -> Floats:
    return np.asarray(probe.decision_function(x), dtype=np.float64)


def _cosines(a: Rows, b: Rows) -> npt.NDArray[np.float64]:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    cosine: Floats = (a64 * b64).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return np.clip(cosine, -1.0, 1.0)


def _row(condition: Condition, place: Place, metric: str, estimate: Estimate) -> ProbeRow:
    low, high = interval(estimate.draws)
    return ProbeRow(condition, place, metric, estimate.value, low, high)
