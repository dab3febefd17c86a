"""Extraction strength and exact memorisation: how much of a text the model can say by heart.

Extraction strength of a text of n predicted tokens is 1 - k/n, where k is the smallest number of
given tokens after which every further token is the most probable one; 0 when nothing matches (the
reference never gives 0: it gives 1/n). Exact memorisation is the share of tokens that are the most
probable one. Range 0 to 1; on forget texts and answers want no more than the oracle.

Source: extraction strength after Carlini et al. 2021 (arXiv:2012.07805), as open-unlearning
computes it; exact memorisation after Tirumala et al. 2022 (arXiv:2205.10770).

Where they lie: text that any model can guess (fixed phrases of a template) counts as memorised; the
oracle's figure says how much of it there is.
"""

import numpy as np
import numpy.typing as npt

from saetools.evaluate.base import Figure
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.unlearning.bench import Bench, Finding, Measured

__all__ = ["extraction", "extraction_strength"]

_STRENGTH = Figure(
    "extraction_strength",
    "share of a forget text or answer said by heart to its end",
    "lower",
    (0, 1),
)
_EXACT = Figure("exact_memorisation", "share of its tokens that are predicted", "lower", (0, 1))


def extraction_strength(right: npt.NDArray[np.bool_]) -> float:
    """1 - k/n of one text, from whether each of its n tokens was predicted; 0 for no token."""
    if len(right) == 0:
        return 0.0
    wrong = np.flatnonzero(~right)
    k = int(wrong[-1]) + 1 if len(wrong) else 0
    return 1 - k / len(right)


def extraction(bench: Bench) -> Measured:
    """Both figures of every model, on the forget answers and on the forget texts if given."""
    questions = bench.questions("forget")
    draws = bench.draws(questions, stream="forget")
    findings = []
    for model in bench.models:
        hits = bench.answers(model, "forget").token_right
        findings += [
            Finding(_STRENGTH, draws.mean(_each(hits)), model, "answers"),
            Finding(_EXACT, draws.mean([h.mean() for h in hits]), model, "answers"),
        ]
    n = len(bench.data.forget_texts)
    if n:
        by_text = bench.text_draws(n, stream="forget_texts")
        for model in bench.models:
            hits = bench.reading(model, "forget_texts").right
            n_right, n_tokens = [h.sum() for h in hits], [len(h) for h in hits]
            findings += [
                Finding(_STRENGTH, by_text.mean(_each(hits)), model, "texts"),
                Finding(_EXACT, by_text.ratio(n_right, n_tokens), model, "texts"),
            ]
    return Measured(tuple(findings))


def _each(hits: tuple[npt.NDArray[np.bool_], ...]) -> Floats:
    return np.array([extraction_strength(right) for right in hits])
