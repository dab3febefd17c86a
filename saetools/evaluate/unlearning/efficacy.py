"""Efficacy and its opposite: how much is no longer answered, of what should go and should stay.

    E = 1 - max(0, acc_edited - chance) / (acc_original - chance)    on forget questions
    N =     max(0, acc_edited - chance) / (acc_original - chance)    on neighbour questions

Definition: card 20 of our methods, after TOFU (Maini et al. 2024, arXiv:2401.06121) and MUSE (Shi
et al. 2024, arXiv:2407.06460). Range 0 to 1, higher is better, for both.

Where they lie: an accuracy at chance does not show that anything was removed. A filter on the
output, or a form of question that the edit was made for, gives E = 1; see `form_gap`, `residue` and
`relearning`. Options without an order are assumed: an answer that the model prefers without the
prompt counts as knowledge.
"""

import numpy as np

from saetools.evaluate.base import Direction, Figure
from saetools.evaluate.bootstrap import Estimate, Floats
from saetools.evaluate.unlearning.bench import (
    EDITED,
    ORIGINAL,
    Bench,
    Finding,
    Measured,
    QuestionGroup,
)
from saetools.evaluate.unlearning.candidate import Missing
from saetools.evaluate.unlearning.draws import Draws

__all__ = ["EFFICACY", "NEIGHBOURS", "answering", "efficacy", "kept", "kept_share", "neighbours"]

EFFICACY = Figure(
    "efficacy", "E: share of the forgotten knowledge that is no longer answered", "higher", (0, 1)
)
NEIGHBOURS = Figure(
    "neighbours_kept",
    "N: share of the neighbours' knowledge that is still answered",
    "higher",
    (0, 1),
)
_GROUPS: tuple[QuestionGroup, ...] = ("forget", "retain", "neighbours")


def kept(now: Floats, before: Floats, chance: Floats) -> Floats:
    """max(0, now - chance) / (before - chance); NaN where `before` is not above chance."""
    known = np.asarray(before - chance)
    return np.where(known > 0, np.maximum(now - chance, 0) / np.where(known > 0, known, 1), np.nan)


def kept_share(bench: Bench, group: QuestionGroup, *, model: str) -> Estimate:
    """Share of the original's knowledge of a group of questions that a model still has.

    Raises:
        Missing: the original knows nothing of them.
    """
    before = bench.answers(ORIGINAL, group)
    draws = bench.draws(before.questions, stream=group)
    share = Estimate.of(
        kept,
        draws.mean(bench.answers(model, group).right),
        draws.mean(before.right),
        draws.mean(before.chance),
    )
    if np.isnan(share.value):
        raise Missing(f"the original is not above chance on the {group} questions")
    return share


def efficacy(bench: Bench) -> Measured:
    """E of the edited model and of the oracles."""
    return Measured(
        tuple(
            Finding(
                EFFICACY,
                Estimate.of(
                    lambda share: 1 - np.minimum(share, 1), kept_share(bench, "forget", model=m)
                ),
                m,
            )
            for m in (EDITED, *bench.oracles)
        )
    )


def neighbours(bench: Bench) -> Measured:
    """N of the edited model and of the oracles."""
    return Measured(
        tuple(
            Finding(
                NEIGHBOURS,
                Estimate.of(
                    lambda share: np.minimum(share, 1), kept_share(bench, "neighbours", model=m)
                ),
                m,
            )
            for m in (EDITED, *bench.oracles)
        )
    )


def answering(bench: Bench) -> Measured:
    """Accuracy, teacher-forced exact match and probability of the answer, of every model."""
    findings = []
    for group in _GROUPS:
        try:
            questions = bench.questions(group)
        except Missing:
            continue
        draws = bench.draws(questions, stream=group)
        findings += [f for model in bench.models for f in _of(bench, group, model, draws)]
    return Measured(tuple(findings))


def _of(bench: Bench, group: QuestionGroup, model: str, draws: Draws) -> list[Finding]:
    answers = bench.answers(model, group)
    better: Direction = "lower" if group == "forget" else "higher"
    figures = {
        "accuracy": ("share of questions whose answer is the most probable option", answers.right),
        "exact_match": ("share of answers whose every token is the most probable", answers.exact),
        "probability": ("mean of exp(-NLL / tokens) of the right answer", answers.probability),
    }
    return [
        Finding(Figure(name, meaning, better, (0, 1)), draws.mean(values), model, group)
        for name, (meaning, values) in figures.items()
    ]
