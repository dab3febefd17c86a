"""Look at an SAE, or at several: self-contained HTML pages that load nothing from the network."""

from saetools.explore.build import explore
from saetools.explore.comparison import Comparison, compare
from saetools.explore.evaluation import EvaluationPage, show_evaluation
from saetools.explore.judgement import JudgementPage, show_judgement
from saetools.explore.page import Page

__all__ = [
    "Comparison",
    "EvaluationPage",
    "JudgementPage",
    "Page",
    "compare",
    "explore",
    "show_evaluation",
    "show_judgement",
]
