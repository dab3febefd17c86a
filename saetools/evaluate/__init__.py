"""Measure an SAE: how well it reconstructs, how sparse it is, what the model makes of it."""

from saetools.evaluate.ablation import (
    ChosenLatent,
    ConceptAblationConfig,
    ConceptAblationReport,
    ProbeRow,
    concept_ablation,
)
from saetools.evaluate.base import METRICS, Curve, Direction, Figure, Findings, Measurement, Metric
from saetools.evaluate.context import MetricContext, Split
from saetools.evaluate.labelled import labels_from_spans
from saetools.evaluate.report import EvaluationReport
from saetools.evaluate.run import evaluate

__all__ = [
    "METRICS",
    "ChosenLatent",
    "ConceptAblationConfig",
    "ConceptAblationReport",
    "Curve",
    "Direction",
    "EvaluationReport",
    "Figure",
    "Findings",
    "Measurement",
    "Metric",
    "MetricContext",
    "ProbeRow",
    "Split",
    "concept_ablation",
    "evaluate",
    "labels_from_spans",
]
