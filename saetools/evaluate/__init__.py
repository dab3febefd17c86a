"""Measure an SAE (reconstruction, sparsity, what a model makes of it), and an unlearning."""

from saetools.evaluate.ablation import (
    ChosenLatent,
    ConceptAblationConfig,
    ConceptAblationReport,
    ProbeRow,
    concept_ablation,
)
from saetools.evaluate.base import (
    METRICS,
    Curve,
    Direction,
    Figure,
    Findings,
    Measurement,
    Metric,
    Table,
)
from saetools.evaluate.concept_search import ConceptSearch, find_concept, find_label
from saetools.evaluate.context import MetricContext, Split
from saetools.evaluate.labelled import labels_from_spans
from saetools.evaluate.report import EvaluationReport
from saetools.evaluate.run import evaluate
from saetools.evaluate.unlearning import (
    UnlearningData,
    UnlearningReport,
    UnlearningSettings,
    evaluate_unlearning,
    intervened,
)

__all__ = [
    "METRICS",
    "ChosenLatent",
    "ConceptAblationConfig",
    "ConceptAblationReport",
    "ConceptSearch",
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
    "Table",
    "UnlearningData",
    "UnlearningReport",
    "UnlearningSettings",
    "concept_ablation",
    "evaluate",
    "evaluate_unlearning",
    "find_concept",
    "find_label",
    "intervened",
    "labels_from_spans",
]
