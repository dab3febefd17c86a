"""Form robustness: is a fact forgotten however one asks for it?

For every form of question,

    forget_form = 1 - max(0, q_edited - chance) / (q_original - chance),

where q is the mean probability of the right answer among its options (without options: of the
answer, chance 0). The form gap is the largest of these less the smallest; F = 1 - gap. Range 0 to
1. Of the gap lower is better, of all others higher.

Source: ORT (Ye, Zhang, Wu 2025, arXiv:2506.07795, abstract), whose definition is 1 - p_edited /
p_original; chance is taken off here so that forms with different options can be compared.

Where it lies: noise opens a gap, and more so with few facts; look at the oracles' gaps, which are
noise and nothing else. F is 1 for a model that forgot nothing: it says something only beside E.
"""

import numpy as np

from saetools.evaluate.base import Figure
from saetools.evaluate.bootstrap import Estimate
from saetools.evaluate.unlearning.bench import EDITED, ORIGINAL, Bench, Finding, Measured
from saetools.evaluate.unlearning.candidate import Missing
from saetools.evaluate.unlearning.efficacy import kept

__all__ = ["FORM_ROBUSTNESS", "form_gap"]

FORM_ROBUSTNESS = Figure(
    "form_robustness", "F: 1 - form gap, sameness of the forgetting in all forms", "higher", (0, 1)
)
_GAP = Figure("form_gap", "largest less smallest forgetting over the forms", "lower", (0, 1))
_FORGET = Figure("forgetting", "share of the answers' probability that is gone", "higher", (0, 1))

_KNOWN = 0.2
"""A form that the original answers by less than this above chance is left out."""


def form_gap(bench: Bench) -> Measured:
    """Forgetting by form, its least and its mean, the gap, and F, of edited model and oracles.

    Raises:
        Missing: fewer than two forms that the original can answer.
    """
    forms = _known_forms(bench)
    if len(forms) < 2:
        raise Missing(
            f"the original can answer {len(forms)} form of the forget questions; two are needed "
            "(`form` of the questions)"
        )
    findings: list[Finding] = []
    for model in (EDITED, *bench.oracles):
        by_form = {form: _forgetting(bench, model, form) for form in forms}
        parts = tuple(by_form.values())
        gap = Estimate.of(lambda *v: np.max(v, axis=0) - np.min(v, axis=0), *parts)
        findings += [
            Finding(FORM_ROBUSTNESS, Estimate.of(lambda g: 1 - g, gap), model),
            Finding(_GAP, gap, model),
            Finding(_FORGET, Estimate.of(lambda *v: np.min(v, axis=0), *parts), model, "least"),
            Finding(_FORGET, Estimate.of(lambda *v: np.mean(v, axis=0), *parts), model, "mean"),
            *(Finding(_FORGET, estimate, model, form) for form, estimate in by_form.items()),
        ]
    return Measured(tuple(findings))


def _known_forms(bench: Bench) -> list[str]:
    answers = bench.answers(ORIGINAL, "forget")
    above = answers.option_probability - answers.chance
    forms = np.array([question.form for question in answers.questions])
    return [form for form in dict.fromkeys(forms.tolist()) if above[forms == form].mean() >= _KNOWN]


def _forgetting(bench: Bench, model: str, form: str) -> Estimate:
    now, before = bench.answers(model, "forget"), bench.answers(ORIGINAL, "forget")
    draws = bench.draws(before.questions, stream="forget")
    here = np.array([question.form == form for question in before.questions])
    return Estimate.of(
        lambda *parts: 1 - np.minimum(kept(*parts), 1),
        draws.mean(now.option_probability, where=here),
        draws.mean(before.option_probability, where=here),
        draws.mean(before.chance, where=here),
    )
