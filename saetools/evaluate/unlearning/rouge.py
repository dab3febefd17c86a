"""ROUGE-L: how much of a text stands, in its order, in another.

With LCS the length of the longest common subsequence of words: recall = LCS / words of the
reference, precision = LCS / words of the candidate, F1 their harmonic mean. Words are runs of
letters and digits, lower case. Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of
Summaries". Recall and F1 are different figures: TOFU prints recall, MUSE F1.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["RougeL", "rouge_l"]


class RougeL(NamedTuple):
    """ROUGE-L of one pair of texts, each 0 to 1."""

    precision: float
    recall: float
    f1: float


def rouge_l(candidate: str, reference: str) -> RougeL:
    """ROUGE-L of a candidate against a reference; 0 if either has no word.

    >>> rouge_l("the cat sat", "the dog sat down").recall
    0.5
    """
    a, b = _words(candidate), _words(reference)
    common = _longest_common_subsequence(a, b)
    if common == 0:
        return RougeL(0.0, 0.0, 0.0)
    precision, recall = common / len(a), common / len(b)
    return RougeL(precision, recall, 2 * precision * recall / (precision + recall))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, start=1):
            above = row[j]
            row[j] = before + 1 if word == other else max(above, row[j - 1])
            before = above
    return row[-1]
