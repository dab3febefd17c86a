"""A linear concept bottleneck: classify texts by named latents, explain, intervene, compare."""

from saetools.evaluate.bottleneck.bottleneck import ConceptBottleneck
from saetools.evaluate.bottleneck.compare import HeadComparison, HeadScore, compare_heads
from saetools.evaluate.bottleneck.heads import Head, PathRow
from saetools.evaluate.bottleneck.prediction import Contribution, Explanation, Intervention

__all__ = [
    "ConceptBottleneck",
    "Contribution",
    "Explanation",
    "Head",
    "HeadComparison",
    "HeadScore",
    "Intervention",
    "PathRow",
    "compare_heads",
]
