"""Names are scored on held-out documents: by what they say, by a judge, and by experiment.

One file a scorer, in `scorers`. Beside every score stand those of a random name and of a swapped
one; nothing that a namer was shown is scored.
"""

from saetools.naming.scores.base import SCORERS, Score, Scorer, ScorerConfig, Trial
from saetools.naming.scores.context import ScoringContext
from saetools.naming.scores.evidence import Evidence, EvidenceConfig
from saetools.naming.scores.run import score_names
from saetools.naming.scores.table import ScoreTable, Summary

__all__ = [
    "SCORERS",
    "Evidence",
    "EvidenceConfig",
    "Score",
    "ScoreTable",
    "Scorer",
    "ScorerConfig",
    "ScoringContext",
    "Summary",
    "Trial",
    "score_names",
]
