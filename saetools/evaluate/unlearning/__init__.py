"""Evaluate unlearning: what is forgotten, what that cost, and what is left of it.

    report = evaluate_unlearning(edited, original=original, data=data, oracles=[retrained])

No single number says it. The report has a score for each way in which an unlearning can fail, an
interval for each, and one combined score that is low as soon as one of five parts is.
docs/unlearning-evaluation.md says what each means and where it lies.
"""

from saetools.evaluate.unlearning.candidate import Candidate, Intervened, Trainee, intervened
from saetools.evaluate.unlearning.control import random_edit
from saetools.evaluate.unlearning.data import TextSpan, UnlearningData, neighbours_of
from saetools.evaluate.unlearning.report import UnlearningReport, UnlearningRow
from saetools.evaluate.unlearning.run import MEASURES, evaluate_unlearning
from saetools.evaluate.unlearning.settings import (
    GenerateSettings,
    ProbeSettings,
    RelearnSettings,
    UnlearningSettings,
)
from saetools.evaluate.unlearning.trainee import WeightCopy, trainable_copy

__all__ = [
    "MEASURES",
    "Candidate",
    "GenerateSettings",
    "Intervened",
    "ProbeSettings",
    "RelearnSettings",
    "TextSpan",
    "Trainee",
    "UnlearningData",
    "UnlearningReport",
    "UnlearningRow",
    "UnlearningSettings",
    "WeightCopy",
    "evaluate_unlearning",
    "intervened",
    "neighbours_of",
    "random_edit",
    "trainable_copy",
]
