"""Residue: can the forgotten attributes still be read off the model's activations?

At each layer's residual stream, at the last token of the prompt (the one that predicts the answer),
probes learn an attribute's value from the **retain** entities and are tested on the **forget**
entities, of which they have seen none: what they read is the model's knowledge, not theirs. Two
probes, logistic and with one hidden layer. The layer is the one that reads best the quarter of the
retain entities that the probe has not seen; nothing is chosen on the forget questions.

- probe_accuracy: on the forget questions, of every model;
- probe_chance: 1 / number of values to choose from, those that several retain entities have;
- probe_selectivity: that less the accuracy of the same probe trained on, and tested against, values
  dealt out anew to the entities (control labels; Hewitt & Liang 2019, arXiv:1909.03368);
- residue: accuracy on the edited model less that on the oracles (mean), the greater of both probes.
  -1 to 1, want 0 or less.

Source: card 20 of our methods, G 2; that probes still succeed after unlearning: Zhang et al. 2024,
"Unforgettable Generalization" (arXiv:2409.02228, abstract).

Where it lies: a probe that fails shows that *this* probe at *this* place cannot read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saetools.corpus import Question
from saetools.evaluate.base import Curve, Figure
from saetools.evaluate.bootstrap import Estimate, Floats
from saetools.evaluate.documents import document_batches
from saetools.evaluate.unlearning.answers import continuations
from saetools.evaluate.unlearning.bench import EDITED, Bench, Finding, Measured
from saetools.evaluate.unlearning.candidate import Candidate, Missing, Readable, read_activations
from saetools.evaluate.unlearning.probes import Probe, ProbeKind, ProbeRows, fit_probe

__all__ = ["residue"]

_ACCURACY = Figure("probe_accuracy", "accuracy of probes on forget questions", "lower", (0, 1))
_SELECTIVITY = Figure(
    "probe_selectivity", "that less the accuracy on control labels", "lower", (-1, 1)
)
_RESIDUE = Figure(
    "residue", "probe accuracy on the edited model less that on oracles", "lower", (-1, 1)
)
_CHANCE = Figure("probe_chance", "accuracy of a probe that knows nothing", "none", (0, 1))
_KINDS: tuple[ProbeKind, ...] = ("logistic", "mlp")


@dataclass(frozen=True)
class _Task:
    """Questions to learn from, to choose a layer by, and to be tested on; classes of each."""

    questions: tuple[Question, ...]
    part: tuple[str, ...]
    y: Tensor
    allowed: Tensor

    def mask(self, part: str) -> Tensor:
        return torch.tensor([p == part for p in self.part])

    @property
    def tested(self) -> tuple[Question, ...]:
        return tuple(q for q, p in zip(self.questions, self.part, strict=True) if p == "test")


def residue(bench: Bench) -> Measured:
    """Probe every model; a model without activations is left out, the edited one may not be.

    Raises:
        Missing: the edited model gives no activations, or the questions name too few values.
    """
    task = _task(bench)
    control = _dealt_anew(task, seed=bench.settings.seed)
    draws = bench.draws(task.tested, stream="forget")
    findings: list[Finding] = []
    curves: list[Curve] = []
    accuracy: dict[tuple[str, ProbeKind], Estimate] = {}
    for model, candidate in bench.models.items():
        try:
            states = _states(bench, candidate, task.questions)
        except Missing:
            if model == EDITED:
                raise
            continue
        for kind in _KINDS:
            right, layer, by_layer = _best(bench, task, states, kind)
            dealt = _right(_fit(bench, control, states[layer], kind), control, states[layer])
            accuracy[model, kind] = draws.mean(right)
            detail = f"{kind}, layer {layer}"
            findings += [
                Finding(_ACCURACY, accuracy[model, kind], model, detail),
                Finding(_SELECTIVITY, accuracy[model, kind] - draws.mean(dealt), model, detail),
            ]
            layers = tuple(float(at) for at in states)
            curves.append(Curve(f"probe {kind} {model}", "accuracy by layer", layers, by_layer))
    chance = draws.mean(1 / task.allowed[task.mask("test")].sum(1).double().numpy())
    summary = (*_residues(bench, accuracy), Finding(_CHANCE, chance))
    return Measured((*summary, *findings), tuple(curves))


def _residues(bench: Bench, accuracy: dict[tuple[str, ProbeKind], Estimate]) -> list[Finding]:
    oracles = [oracle for oracle in bench.oracles if (oracle, _KINDS[0]) in accuracy]
    if not oracles:
        return []
    gaps = [
        Estimate.of(
            lambda now, *others: now - np.mean(others, axis=0),
            accuracy[EDITED, kind],
            *(accuracy[oracle, kind] for oracle in oracles),
        )
        for kind in _KINDS
    ]
    return [Finding(_RESIDUE, Estimate.of(lambda *v: np.max(v, axis=0), *gaps))]


def _task(bench: Bench) -> _Task:
    """Which questions are probed: those whose value several retain entities have."""
    owners: dict[tuple[str, str], set[str]] = {}
    for q in bench.data.retain:  # all of them: few questions would leave few values to choose from
        if q.entity and q.attribute and len(q.options) > 1:
            owners.setdefault((q.attribute, q.answer), set()).add(q.entity)
    classes = {key: i for i, key in enumerate(k for k, who in owners.items() if len(who) > 1)}
    retain = [q for q in bench.data.retain if (q.attribute, q.answer) in classes]
    forget = [q for q in bench.questions("forget") if (q.attribute, q.answer) in classes]
    entities = list(dict.fromkeys(q.entity for q in retain))
    if not forget or len(entities) < 4:
        raise Missing("no attribute value of a forget question is that of several retain entities")
    rng = np.random.default_rng([bench.settings.seed, 0x9A0B])
    chosen_by = {entities[i] for i in rng.permutation(len(entities))[: len(entities) // 4]}
    learned = [q for q in retain if q.entity not in chosen_by]
    most = np.sort(rng.permutation(len(learned))[: bench.settings.probe.max_rows])
    chosen = [q for q in retain if q.entity in chosen_by]
    questions = (*(learned[i] for i in most), *chosen, *forget)
    part = ("train",) * len(most) + ("choose",) * len(chosen) + ("test",) * len(forget)
    attributes = np.array([key[0] for key in classes])
    allowed = np.stack([attributes == q.attribute for q in questions])
    y = [classes[q.attribute, q.answer] for q in questions]
    return _Task(questions, part, torch.tensor(y), torch.from_numpy(allowed))


def _dealt_anew(task: _Task, *, seed: int) -> _Task:
    """The same task with each attribute's values dealt out anew to its entities."""
    rng = np.random.default_rng([seed, 0xDEA1])
    truth = {(q.attribute, q.entity): int(y) for q, y in zip(task.questions, task.y, strict=True)}
    dealt: dict[tuple[str, str], int] = {}
    for attribute in dict.fromkeys(key[0] for key in truth):
        keys = [key for key in truth if key[0] == attribute]
        order = rng.permutation(len(keys))
        dealt |= {key: truth[keys[i]] for key, i in zip(keys, order, strict=True)}
    y = torch.tensor([dealt[q.attribute, q.entity] for q in task.questions])
    return _Task(task.questions, task.part, y, task.allowed)


def _states(bench: Bench, candidate: Candidate, questions: Sequence[Question]) -> dict[int, Tensor]:
    """Residual stream at the token that predicts the answer, by layer, (n, d_model)."""
    if not isinstance(candidate, Readable):
        raise Missing(f"{candidate.name} gives no activations to probe")
    layers = bench.settings.probe.layers or tuple(range(candidate.n_layers))
    hooks = [f"resid_post.{layer}" for layer in layers]
    rows = continuations(candidate, [(q.prompt, q.answer) for q in questions])
    prompts = [row.ids[: row.start] for row in rows]
    found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    places: list[int] = []
    for batch in document_batches(
        candidate, prompts, ctx_len=None, batch_tokens=bench.settings.batch_tokens
    ):
        acts = read_activations(candidate, batch.tokens, hooks)
        for layer, hook in zip(layers, hooks, strict=True):
            x = acts[hook]
            last = batch.tokens.mask.sum(1).to(x.device) - 1
            found[layer].append(x[torch.arange(len(x), device=x.device), last].float().cpu())
        places += batch.places.tolist()
    back = torch.tensor(places).argsort()
    return {layer: torch.cat(parts)[back] for layer, parts in found.items()}


def _best(
    bench: Bench, task: _Task, states: dict[int, Tensor], kind: ProbeKind
) -> tuple[Floats, int, tuple[float, ...]]:
    """Right answers on the test questions at the chosen layer, that layer, accuracy at each."""
    chosen_by = task.mask("choose")
    tested: dict[int, Floats] = {}
    reads: dict[int, float] = {}
    for layer, x in states.items():
        probe = _fit(bench, task, x, kind)
        tested[layer] = _right(probe, task, x)
        guess = probe.predict(x[chosen_by], task.allowed[chosen_by])
        reads[layer] = float((guess == task.y[chosen_by]).float().mean())
    best = max(reads, key=lambda layer: reads[layer])
    return tested[best], best, tuple(float(right.mean()) for right in tested.values())


def _fit(bench: Bench, task: _Task, x: Tensor, kind: ProbeKind) -> Probe:
    train, settings = task.mask("train"), bench.settings
    rows = ProbeRows(x[train], task.y[train], task.allowed[train])
    return fit_probe(
        rows,
        kind,
        n_hidden=settings.probe.n_hidden,
        penalty=settings.probe.penalty,
        seed=settings.seed,
    )


def _right(probe: Probe, task: _Task, x: Tensor) -> Floats:
    test = task.mask("test")
    hits: Floats = (probe.predict(x[test], task.allowed[test]) == task.y[test]).double().numpy()
    return hits
