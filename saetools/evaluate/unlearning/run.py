"""Evaluate an unlearning: every measure on the edited model, the original and the oracles."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from saetools import progress
from saetools.errors import ConfigError, UnknownNameError, nearest
from saetools.evaluate.base import Curve
from saetools.evaluate.bootstrap import interval
from saetools.evaluate.unlearning.bench import EDITED, Bench, Finding, Measured
from saetools.evaluate.unlearning.candidate import Candidate, Missing
from saetools.evaluate.unlearning.combined import PARTS, combined_score, partial_score
from saetools.evaluate.unlearning.data import UnlearningData
from saetools.evaluate.unlearning.divergence import divergence
from saetools.evaluate.unlearning.edit_size import edit_size
from saetools.evaluate.unlearning.efficacy import answering, efficacy, neighbours
from saetools.evaluate.unlearning.extraction import extraction
from saetools.evaluate.unlearning.forms import form_gap
from saetools.evaluate.unlearning.in_context import in_context
from saetools.evaluate.unlearning.membership import privacy
from saetools.evaluate.unlearning.memorisation import knowledge, verbatim
from saetools.evaluate.unlearning.relearning import relearning
from saetools.evaluate.unlearning.report import UnlearningReport, UnlearningRow
from saetools.evaluate.unlearning.residue import residue
from saetools.evaluate.unlearning.settings import UnlearningSettings
from saetools.evaluate.unlearning.truth_ratio import forget_quality, truth_ratio
from saetools.evaluate.unlearning.utility import utility
from saetools.models.base import LanguageModel

__all__ = ["MEASURES", "evaluate_unlearning"]

MEASURES: dict[str, Callable[[Bench], Measured]] = {
    "efficacy": efficacy,
    "form_robustness": form_gap,
    "neighbours_kept": neighbours,
    "utility": utility,
    "relearn_resistance": relearning,
    "residue": residue,
    "privacy_leak": privacy,
    "forget_quality": forget_quality,
    "kl_to_oracle": divergence,
    "accuracy": answering,
    "truth_ratio": truth_ratio,
    "extraction_strength": extraction,
    "verbatim": verbatim,
    "knowledge": knowledge,
    "in_context": in_context,
    "edit_norm": edit_size,
}
"""Measures by the name of the first figure that each gives; the parts of S come first."""


def evaluate_unlearning(
    edited: Candidate,
    *,
    original: Candidate,
    data: UnlearningData,
    oracles: Sequence[Candidate] = (),
    settings: UnlearningSettings | None = None,
) -> UnlearningReport:
    """Measure what a model has forgotten, what that cost, and what is left of it.

        data = UnlearningData.split(load_questions("facts.jsonl"), forget_entities=["Zed"])
        report = evaluate_unlearning(edited, original=original, data=data, oracles=[retrained])

    Args:
        edited: the model that is to have forgotten: a language model, `intervened(...)` for one
            that is edited by hooks, or any `Candidate`.
        original: the model before.
        data: what is to be forgotten and what is to stay.
        oracles: models trained like the original but without what is to be forgotten. Without one
            there is no L, no S, no privacy leak and no forget quality; several show the noise.
        settings: of the measures; by default all of them.

    Raises:
        ConfigError: edited and original are one model with an intervention open on it, or a
            question does not fit into a model's context.
        UnknownNameError: the settings name a measure that does not exist.
    """
    settings = settings or UnlearningSettings()
    chosen = _chosen(settings)
    _check_shared(edited, [original, *oracles])
    bench = Bench(edited, original, oracles, data=data, settings=settings)
    findings: list[Finding] = []
    curves: list[Curve] = []
    missing = {name: "not asked for" for name in MEASURES if name not in chosen}
    with progress.task("unlearning", total=len(chosen), unit="measures") as task:
        for name in chosen:
            task.note(measure=name)
            try:
                measured = MEASURES[name](bench)
            except Missing as why:
                missing[name] = str(why)
            else:
                findings += measured.findings
                curves += measured.curves
            task.advance()
    findings = [*_combined(findings, missing), *findings]
    return UnlearningReport(
        tuple(_row(finding) for finding in findings), missing, tuple(curves), _about(bench)
    )


def _combined(findings: Sequence[Finding], missing: dict[str, str]) -> list[Finding]:
    """S of the edited model, or what there is of it."""
    names = {figure.name for figure in PARTS}
    parts = {f.figure.name: f.estimate for f in findings if f.model == EDITED}
    parts = {name: estimate for name, estimate in parts.items() if name in names}
    try:
        return [combined_score(parts)]
    except Missing as why:
        missing["score"] = str(why)
        return [partial_score(parts)] if parts else []


def _chosen(settings: UnlearningSettings) -> tuple[str, ...]:
    wanted = settings.measures
    if wanted is None:
        return tuple(MEASURES)
    for name in wanted:
        if name not in MEASURES:
            raise UnknownNameError(
                f"no measure of unlearning is named {name!r}; nearest: "
                f"{', '.join(nearest(name, MEASURES))}; known: {', '.join(MEASURES)}"
            )
    return tuple(name for name in MEASURES if name in wanted)


def _check_shared(edited: Candidate, others: Sequence[Candidate]) -> None:
    """Refuse an intervention that would edit the models that one compares with, too."""
    if not isinstance(edited, LanguageModel):
        return
    shared = any(isinstance(o, LanguageModel) and o.hf is edited.hf for o in others)
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in edited.hf.modules())
    if shared and hooked:
        raise ConfigError(
            f"asked to compare {edited.name} with itself while an intervention is open on it, "
            "which would edit both sides; pass intervened(model, lambda: ablate(model, ...)) as "
            "the edited model and call outside the block, or load the original a second time"
        )


def _row(finding: Finding) -> UnlearningRow:
    draws = finding.estimate.draws
    known = draws.size > 0 and not np.isnan(draws).all()
    low, high = interval(draws) if known else (float("nan"), float("nan"))
    return UnlearningRow(
        name=finding.figure.name,
        model=finding.model,
        detail=finding.detail,
        value=finding.estimate.value,
        low=low,
        high=high,
        direction=finding.figure.direction,
        meaning=finding.figure.meaning,
    )


def _about(bench: Bench) -> dict[str, Any]:
    data = bench.data
    chances = [question.chance or 0.0 for question in data.forget]
    return {
        **{model: candidate.name for model, candidate in bench.models.items()},
        "n_forget_questions": len(data.forget),
        "n_forget_entities": len({question.entity for question in data.forget}),
        "n_retain_questions": len(data.retain),
        "n_neighbour_questions": len(bench.neighbours),
        "n_retain_questions_asked": len(bench.retain),
        "n_texts": len(data.texts),
        "n_forget_texts": len(data.forget_texts),
        "n_holdout_texts": len(data.holdout_texts),
        "chance": float(np.mean(chances)),
        "settings": bench.settings.model_dump(),
    }
