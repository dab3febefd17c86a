"""Relearning: does the knowledge come back when a part of it is taught again?

A copy of the model is fine-tuned on the questions of a share of the forget entities (AdamW, loss on
the answers only, the same batches for every model), and asked about the **other** forget entities.
Facts that were drawn at random say nothing about each other, so what an oracle gains is chance, and
what a model gains beyond that was never gone. With k(t) = max(0, acc(t) - chance) / (acc_original -
chance) at step t:

    recovery = max of k over the curve,
    L = 1 - max(0, recovery_edited - recovery_oracle),
    relearning_gap = mean over the steps of k_edited - k_oracle (area between the curves by length),

each against the mean of the oracles. Range of L 0 to 1, higher is better. `relearning_steps` is the
first step on the curve at which half the knowledge is back (infinite if never).

Source: card 20 of our methods, G 1, G 5 and H; the greatest k stands for recovery, because an
attacker stops where it is best. Where it lies: learning rate and steps decide how much comes back;
both are in the report. Too great a rate destroys what the model still knows: then the gap is small
where the recovery is not. Random weights recover nothing: L is 1.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from saetools.corpus import Question
from saetools.evaluate.base import Curve, Figure
from saetools.evaluate.bootstrap import Estimate
from saetools.evaluate.unlearning.answers import Continuation, continuations
from saetools.evaluate.unlearning.bench import EDITED, ORIGINAL, Bench, Finding, Measured
from saetools.evaluate.unlearning.candidate import Candidate, Missing, Trainee
from saetools.evaluate.unlearning.draws import Draws
from saetools.evaluate.unlearning.efficacy import kept
from saetools.evaluate.unlearning.trainee import trainable_copy

__all__ = ["RELEARN_RESISTANCE", "relearning", "split_for_relearning"]

RELEARN_RESISTANCE = Figure(
    "relearn_resistance", "L: 1 - what comes back beyond the oracle on relearning", "higher", (0, 1)
)
_RECOVERY = Figure(
    "recovery", "knowledge of untaught forget facts at its greatest", "lower", (0, np.inf)
)
_GAP = Figure(
    "relearning_gap",
    "area between the relearning curve and the oracles'",
    "lower",
    (-np.inf, np.inf),
)
_STEPS = Figure("relearning_steps", "steps until half the knowledge is back", "higher", (0, np.inf))


def split_for_relearning(
    questions: Sequence[Question], *, fraction: float, seed: int
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Questions to teach and questions to ask, of different entities.

    Of a single entity, different attributes; of questions that name neither, different questions.

    Raises:
        Missing: there is one fact only.
    """
    units = [q.entity or f"question {i}" for i, q in enumerate(questions)]
    if len(set(units)) < 2:
        units = [q.attribute or f"question {i}" for i, q in enumerate(questions)]
    known = list(dict.fromkeys(units))
    if len(known) < 2:
        raise Missing("relearning needs two forget facts or more, and there is one")
    n = min(len(known) - 1, max(1, round(fraction * len(known))))
    chosen = np.random.default_rng([seed, 0x7EAC]).permutation(len(known))[:n]
    taught = {known[i] for i in chosen}
    pairs = list(zip(questions, units, strict=True))
    return (
        tuple(q for q, unit in pairs if unit in taught),
        tuple(q for q, unit in pairs if unit not in taught),
    )


def relearning(bench: Bench) -> Measured:
    """Curves of edited model and oracles, recovery, the gap, and L.

    Raises:
        Missing: no oracle, a model that cannot be copied, or a single forget fact.
    """
    bench.need_oracle()
    settings = bench.settings
    taught, asked = split_for_relearning(
        bench.questions("forget"), fraction=settings.relearn.fraction, seed=settings.seed
    )
    draws = bench.draws(asked, stream="relearning")
    before = draws.mean(bench.ask(bench.models[ORIGINAL], asked).right)
    chance = draws.mean([q.chance or 0.0 for q in asked])
    if not before.value > chance.value:
        raise Missing("the original is not above chance on the forget questions")
    curves: list[Curve] = []
    shares: dict[str, list[Estimate]] = {}
    for model in (EDITED, *bench.oracles):
        steps, points = _curve(bench, bench.models[model], taught, asked, draws)
        shares[model] = [Estimate.of(kept, point, before, chance) for point in points]
        y = tuple(share.value for share in shares[model])
        curves.append(Curve(f"relearning {model}", "knowledge of untaught facts by step", steps, y))
    return Measured(tuple(_findings(bench, shares, curves)), tuple(curves))


def _findings(
    bench: Bench, shares: dict[str, list[Estimate]], curves: Sequence[Curve]
) -> list[Finding]:
    findings = []
    peaks = {m: Estimate.of(lambda *v: np.max(v, axis=0), *curve) for m, curve in shares.items()}
    areas = {m: _mean_over(curves[0].x, curve) for m, curve in shares.items()}
    for model, curve in zip(shares, curves, strict=True):
        half = next((s for s, k in zip(curve.x, curve.y, strict=True) if k >= 0.5), np.inf)
        findings += [
            Finding(_RECOVERY, peaks[model], model),
            Finding(_STEPS, Estimate(float(half), np.empty(0)), model),
        ]
        others = bench.references(model)
        if others:
            above = _beyond(peaks[model], [peaks[oracle] for oracle in others])
            resistance = Estimate.of(lambda gap: np.clip(1 - np.maximum(gap, 0), 0, 1), above)
            area = _beyond(areas[model], [areas[oracle] for oracle in others])
            findings += [
                Finding(RELEARN_RESISTANCE, resistance, model),
                Finding(_GAP, area, model),
            ]
    return findings


def _beyond(now: Estimate, others: Sequence[Estimate]) -> Estimate:
    """What an estimate has more than others have on average."""
    return Estimate.of(lambda own, *rest: own - np.mean(rest, axis=0), now, *others)


def _curve(
    bench: Bench,
    candidate: Candidate,
    taught: Sequence[Question],
    asked: Sequence[Question],
    draws: Draws,
) -> tuple[tuple[float, ...], list[Estimate]]:
    """Accuracy on the questions asked, before, during and after the fine-tuning."""
    settings = bench.settings.relearn
    trainee = trainable_copy(candidate)
    rows = continuations(candidate, [(q.prompt, q.answer) for q in taught])
    batches = _batches(len(rows), settings.batch_size, seed=bench.settings.seed)
    optimizer = torch.optim.AdamW(trainee.trained(), lr=settings.lr, weight_decay=0.0)
    steps, points = [0.0], [draws.mean(bench.ask(trainee, asked).right)]
    for step in range(1, settings.n_steps + 1):
        _teach(trainee, optimizer, [rows[i] for i in next(batches)])
        if step % settings.every == 0 or step == settings.n_steps:
            steps.append(float(step))
            points.append(draws.mean(bench.ask(trainee, asked).right))
    return tuple(steps), points


def _teach(
    trainee: Trainee, optimizer: torch.optim.Optimizer, rows: Sequence[Continuation]
) -> None:
    tokens = trainee.tokenize([row.ids for row in rows])
    labels = tokens.ids.masked_fill(~tokens.mask, -100)
    for label, row in zip(labels, rows, strict=True):
        label[: row.start] = -100
    with torch.enable_grad():
        logits = trainee.logits(tokens)[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten().to(logits.device), ignore_index=-100
        )
        weights = list(trainee.trained())
        # Only the copy gets gradients, not an SAE that stands in the way.
        gradients: Sequence[Tensor | None] = torch.autograd.grad(loss, weights, allow_unused=True)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimizer.step()


def _batches(n: int, size: int, *, seed: int) -> Iterator[list[int]]:
    """Places of the rows of each step, for ever; every row once before any comes again."""
    rng = np.random.default_rng([seed, 0xBA7C])
    waiting: list[int] = []
    while True:
        while len(waiting) < min(size, n):
            waiting += rng.permutation(n).tolist()
        yield waiting[:size]
        waiting = waiting[size:]


def _mean_over(steps: Sequence[float], values: Sequence[Estimate]) -> Estimate:
    """Area under a curve (trapezia) by its length."""
    widths = np.diff(np.asarray(steps))
    weights = np.zeros(len(steps))
    weights[:-1] += widths / 2
    weights[1:] += widths / 2
    weights /= weights.sum()
    return Estimate.of(lambda *v: np.tensordot(weights, np.stack(v), axes=1), *values)
