"""Truth ratio and forget quality: does the model find wrong answers as likely as an oracle does?

    R = (geometric mean of P over the wrong options) / P(right),   P = exp(-NLL / n_tokens).

R of a fact is the geometric mean over its forms. Forget: mean of min(R, 1/R), 1 = cannot tell.
Retain and neighbours: mean of max(0, 1 - R), 1 = surely right. **Forget quality** is the p-value of
the two-sample Kolmogorov-Smirnov test between the R of a model and those of an oracle, given as
log10 p (0 is best; the median over the oracles); the distance D of that test has an interval.

Source: TOFU (Maini et al. 2024, arXiv:2401.06121), where wrong answers are perturbed ones, averaged
as losses; here they are the other options.

Where it lies: p depends on the number of facts, so it compares only evaluations of the same facts
(`n_facts` fixes their largest number). With few facts a high p shows little. Both models are asked
the same facts and err alike on some, which makes the test lenient.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import ks_2samp

from saetools.corpus import Question
from saetools.evaluate.base import Figure
from saetools.evaluate.bootstrap import Estimate, Floats
from saetools.evaluate.unlearning.answers import Answers
from saetools.evaluate.unlearning.bench import Bench, Finding, Measured, QuestionGroup
from saetools.evaluate.unlearning.candidate import Missing
from saetools.evaluate.unlearning.draws import Draws, Ints

__all__ = ["forget_quality", "ks_distance", "log_truth_ratios", "truth_ratio"]

_TRUTH_FORGET = Figure(
    "truth_ratio", "mean min(R, 1/R): 1 = cannot tell true from false", "higher", (0, 1)
)
_TRUTH_KEPT = Figure(
    "truth_ratio", "mean max(0, 1 - R): 1 = surely tells true from false", "higher", (0, 1)
)
_QUALITY = Figure(
    "forget_quality",
    "log10 p of the KS test against the oracle's truth ratios",
    "higher",
    (-np.inf, 0),
)
_DISTANCE = Figure("ks_distance", "KS distance to the oracle's truth ratios", "lower", (0, 1))
_SMALLEST = 1e-300


def log_truth_ratios(answers: Answers) -> Floats:
    """log R of each question, (n,).

    Raises:
        Missing: a question has no wrong option.
    """
    found = np.empty(len(answers.questions))
    for i, question in enumerate(answers.questions):
        if len(question.options) < 2:
            raise Missing("truth ratios need questions with wrong options")
        per_token = answers.option_logprob[i] / answers.option_tokens[i]
        right = question.options.index(question.answer)
        found[i] = np.delete(per_token, right).mean() - per_token[right]
    return found


def truth_ratio(bench: Bench) -> Measured:
    """Mean truth ratios of every model on forget, retain and neighbour questions."""
    groups: tuple[QuestionGroup, ...] = ("forget", "retain", "neighbours")
    findings = []
    for group in groups:
        try:
            questions = bench.questions(group)
        except Missing:
            continue
        draws = bench.draws(questions, stream=group)
        for model in bench.models:
            log_r = log_truth_ratios(bench.answers(model, group))
            if group == "forget":
                found = Finding(_TRUTH_FORGET, draws.mean(np.exp(-np.abs(log_r))), model, group)
            else:
                certain = np.maximum(0, 1 - np.exp(np.minimum(log_r, 0)))
                found = Finding(_TRUTH_KEPT, draws.mean(certain), model, group)
            findings.append(found)
    return Measured(tuple(findings))


def forget_quality(bench: Bench) -> Measured:
    """log10 p and the distance of the KS test, of every model against the other oracles.

    Raises:
        Missing: no oracle, or questions without options.
    """
    bench.need_oracle()
    questions = bench.questions("forget")
    fact, units = _facts(questions, n_facts=bench.settings.n_facts, seed=bench.settings.seed)
    draws = Draws(units, stream="forget", n_draws=bench.settings.n_draws, seed=bench.settings.seed)
    ratios = {m: _by_fact(log_truth_ratios(bench.answers(m, "forget")), fact) for m in bench.models}
    findings = []
    for model in bench.models:
        others = [ratios[oracle] for oracle in bench.references(model)]
        if not others:
            continue
        p = [max(float(ks_2samp(ratios[model], other).pvalue), _SMALLEST) for other in others]
        distances = [ks_distance(ratios[model], other, draws) for other in others]
        no_draws = np.full(bench.settings.n_draws, np.nan)
        detail = f"{len(units)} facts"
        findings += [
            Finding(_QUALITY, Estimate(float(np.median(np.log10(p))), no_draws), model, detail),
            Finding(
                _DISTANCE, Estimate.of(lambda *d: np.mean(d, axis=0), *distances), model, detail
            ),
        ]
    return Measured(tuple(findings))


def ks_distance(a: Floats, b: Floats, draws: Draws) -> Estimate:
    """Largest difference of the distribution functions of a and b, which are drawn together."""
    points = np.sort(np.concatenate([a, b]))
    below = (a[:, None] <= points).astype(np.float64) - (b[:, None] <= points)  # (n, 2n)
    weights = draws.weights[:, draws.units]  # (n_draws, n)
    with np.errstate(invalid="ignore"):
        gaps = np.abs(weights @ below).max(axis=1) / weights.sum(axis=1)
    return Estimate(float(np.abs(below.mean(axis=0)).max()), gaps)


def _facts(questions: Sequence[Question], *, n_facts: int, seed: int) -> tuple[Ints, Ints]:
    """The fact of each question (-1: of none that was drawn), and the entity of each fact."""
    keys = [
        (q.entity, q.attribute) if q.entity and q.attribute else (f"question {i}", "")
        for i, q in enumerate(questions)
    ]
    all_facts = list(dict.fromkeys(keys))
    rng = np.random.default_rng([seed, 0xFAC7])
    chosen = np.sort(rng.permutation(len(all_facts))[:n_facts])
    facts = [all_facts[i] for i in chosen]
    number = {key: i for i, key in enumerate(facts)}
    entities = {entity: i for i, entity in enumerate(dict.fromkeys(key[0] for key in facts))}
    return (
        np.array([number.get(key, -1) for key in keys], dtype=np.int64),
        np.array([entities[key[0]] for key in facts], dtype=np.int64),
    )


def _by_fact(values: Floats, fact: Ints) -> Floats:
    chosen = fact >= 0
    sums = np.bincount(fact[chosen], weights=values[chosen])
    means: Floats = sums / np.bincount(fact[chosen])
    return means
