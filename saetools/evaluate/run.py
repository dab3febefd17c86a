"""Evaluate an SAE: run the metrics that were asked for and gather one report."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from saetools import progress
from saetools.corpus import ConceptLabels, Corpus, Document, LabelledTexts, Question
from saetools.errors import ConfigError, ShapeError
from saetools.evaluate.base import METRICS, Findings, Metric
from saetools.evaluate.context import MetricContext, Split, store_hook
from saetools.evaluate.documents import store_texts
from saetools.evaluate.report import EvaluationReport
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.store import ActivationStore

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

_SPLITS = ("held_out", "train", "all")


def evaluate(
    sae: SAE,
    store: ActivationStore,
    *,
    model: SubjectModel | None = None,
    corpus: Corpus | Iterable[str | Document] | None = None,
    metrics: Sequence[str] | None = None,
    split: Split = "held_out",
    n_docs: int | None = None,
    labelled: Sequence[LabelledTexts] = (),
    concept_pairs: Sequence[tuple[str, str]] = (),
    twins: Sequence[SAE] = (),
    seed: int = 0,
    concepts: ConceptLabels | None = None,
    questions: Iterable[Question] = (),
) -> EvaluationReport:
    """Measure an SAE, or a transcoder against the activation that it writes.

    Metrics that mean nothing of a transcoder are left out with the reason, even where they were
    asked for by name.

    Args:
        sae: a trained SAE.
        store: activations of the hook that it reads, and of the one that it writes.
        model: subject model, for metrics that run it.
        corpus: what the store was harvested from, for the same metrics.
        metrics: names of metrics, run in this order; None: all that apply, the others are left
            out with a logged reason.
        split: documents to measure on; the default was kept from training.
        n_docs: documents for metrics that run the model; None: all of the split.
        labelled: texts with concepts, for metrics of concepts; the model reads up to 500 a
            concept. None given: the store's documents of the split with their labels.
        concept_pairs: for scr: (kept, removed), of concepts that occur together and apart; none:
            the pair of which every combination is frequent.
        twins: SAEs of other seeds on the same store, for stability.
        seed: of the choice of documents and of the resampling behind standard errors.
        concepts: which concepts are on at each row of the store, for metrics of planted truth.
        questions: facts that the model may know, for metrics of attributes.

    Raises:
        UnknownNameError: no metric of that name.
        ConfigError: a metric that was asked for lacks its model or corpus, or the SAE, store and
            corpus do not belong together.
        ShapeError: the concepts are not labelled row by row of this store.

    >>> report = evaluate(sae, store, metrics=["reconstruction"])    # doctest: +SKIP
    >>> report.values["fvu"]                                         # doctest: +SKIP
    """
    if split not in _SPLITS:
        raise ConfigError(f"evaluate: no split {split!r}; choose among {', '.join(_SPLITS)}")
    if concepts is not None and len(concepts) != store.n_tokens:
        raise ShapeError(
            f"evaluate: concepts label {len(concepts):,} rows, but {store.path} has "
            f"{store.n_tokens:,}; label every row of the store, in its order"
        )
    ctx = MetricContext(
        sae=sae,
        store=store,
        hook_name=store_hook(sae, store),
        model=model,
        texts=None if corpus is None else store_texts(corpus, store, model=model),
        split=split,
        n_docs=n_docs,
        seed=seed,
        labelled=tuple(labelled),
        pairs=tuple((first, second) for first, second in concept_pairs),
        twins=tuple(twins),
        concepts=concepts,
        questions=tuple(questions),
    )
    chosen, skipped = _choose(ctx, metrics)
    about = _about(ctx, list(chosen))  # first, since it refuses an empty split
    findings: dict[str, Findings] = {}
    with progress.task("evaluate", total=len(chosen), unit="metrics") as task:
        for name, metric in chosen.items():
            task.note(metric=name)
            findings[name] = metric.compute(ctx)
            task.advance()
    for name, found in findings.items():
        if found.skipped is not None:
            logger.info("metric %s gave up: %s", name, found.skipped)
            skipped[name] = found.skipped
        skipped |= found.left_out
    return EvaluationReport(
        rows=tuple(row for found in findings.values() for row in found.measurements),
        curves=tuple(curve for found in findings.values() for curve in found.curves),
        tables=tuple(table for found in findings.values() for table in found.tables),
        skipped=skipped,
        about={**about, **_parts(findings)},
    )


def _choose(
    ctx: MetricContext, names: Sequence[str] | None
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Metrics to run, and those left out with the reason.

    One asked for by name must run, unless nothing could make it measure this SAE.
    """
    chosen: dict[str, Metric] = {}
    skipped: dict[str, str] = {}
    for name in METRICS.names() if names is None else dict.fromkeys(names):
        metric = METRICS.get(name)()
        never = _not_of_transcoders(metric, ctx)
        why_not = never or metric.missing(ctx)
        if why_not is None:
            chosen[name] = metric
        elif names is None or never:
            logger.info("metric %s is left out: %s", name, why_not)
            skipped[name] = why_not
        else:
            raise ConfigError(f"the metric '{name}' cannot run: {why_not}")
    return chosen, skipped


def _not_of_transcoders(metric: Metric, ctx: MetricContext) -> str | None:
    if metric.one_hook is None or not ctx.transcodes:
        return None
    return (
        f"it is not defined for a transcoder, which reads {ctx.hook_name} and writes "
        f"{ctx.written}: {metric.one_hook}"
    )


def _parts(findings: dict[str, Findings]) -> dict[str, dict[str, list[str]]]:
    """Which figures, curves and tables are whose."""
    return {
        "figures": {
            name: [row.figure.name for row in found.measurements]
            for name, found in findings.items()
        },
        "curves": {
            name: [curve.name for curve in found.curves] for name, found in findings.items()
        },
        "tables": {
            name: [table.name for table in found.tables] for name, found in findings.items()
        },
    }


def _about(ctx: MetricContext, metrics: list[str]) -> dict[str, Any]:
    manifest = ctx.store.manifest
    model_docs = len(ctx.model_docs) if ctx.texts is not None else 0
    return {
        "sae": ctx.sae.config.model_dump(),
        "hook_name": ctx.hook_name,
        **({"target_hook_name": ctx.written} if ctx.transcodes else {}),
        "model": manifest.get("model", {}).get("name"),
        "corpus": manifest.get("corpus", {}).get("name"),
        "split": ctx.split,
        "n_docs": len(ctx.docs),
        "n_docs_through_model": model_docs,
        "labelled": [texts.name for texts in ctx.labelled],
        "metrics": metrics,
        "seed": ctx.seed,
    }
