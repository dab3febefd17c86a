"""Judge an edit: evaluate it, look at the latents before and after, and give a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import torch

from saetools.errors import ConfigError
from saetools.evaluate.unlearning import (
    Candidate,
    UnlearningData,
    UnlearningReport,
    UnlearningSettings,
    evaluate_unlearning,
)
from saetools.models.base import LanguageModel, SubjectModel
from saetools.repro import environment, write_json
from saetools.sae import SAE
from saetools.unlearn.base import checked_saes
from saetools.unlearn.checks import Check, make_checks
from saetools.unlearn.examples import Example, record_examples
from saetools.unlearn.plan import Plan
from saetools.unlearn.result import Unlearned
from saetools.unlearn.rows import rows_of
from saetools.unlearn.rules import VerdictRules
from saetools.unlearn.select import read_latents
from saetools.unlearn.untested import Untested, untested
from saetools.unlearn.verdict import Verdict, give_verdict
from saetools.unlearn.words import written_words

__all__ = ["Judgement", "LatentChange", "judge"]

_FORMAT = "saetools-judgement/1"
_OF_CONTROLS = ("accuracy", "efficacy", "form_robustness", "neighbours_kept", "utility")


@dataclass(frozen=True)
class LatentChange:
    """What became of a latent that was acted on.

    Args:
        hook_name: where its SAE reads.
        latent: its index.
        before: mean activation over the tokens of forget questions in the original.
        after: the same in the edited model.
        retain_before: mean activation over the tokens of retain questions in the original.
        retain_after: the same in the edited model.
        words: tokens that its decoder row writes most, by the original's unembedding.
    """

    hook_name: str
    latent: int
    before: float
    after: float
    retain_before: float
    retain_after: float
    words: str = ""


@dataclass(frozen=True)
class Judgement:
    """All that is known of an edit; `saetools.explore.show_judgement` makes a page of it.

    Args:
        verdict: the sentence, and what it rests on.
        rules: by which it was given.
        evaluation: every measure of `evaluate_unlearning`.
        edit: what was done, as plain data.
        latents: those that were acted on, before and after.
        checks: every way by which the edit was doubted, with the limits of the rules.
        examples: a few questions with the answers before and after.
        untested: what nobody tried.
        controls: evaluations of models that the edit is to be told from, by name.
        made: when and with which versions.
    """

    verdict: Verdict
    rules: VerdictRules
    evaluation: UnlearningReport
    edit: dict[str, Any]
    latents: tuple[LatentChange, ...]
    checks: tuple[Check, ...] = ()
    examples: tuple[Example, ...] = ()
    untested: tuple[Untested, ...] = ()
    controls: Mapping[str, UnlearningReport] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "format": _FORMAT,
            "made": dict(self.made),
            "verdict": asdict(self.verdict),
            "rules": self.rules.model_dump(),
            "checks": [
                {**asdict(check), "passed": check.passed, "clear": check.clear}
                for check in self.checks
            ],
            "untested": [asdict(one) for one in self.untested],
            "edit": self.edit,
            "latents": [asdict(change) for change in self.latents],
            "examples": [asdict(example) for example in self.examples],
            "evaluation": _plain(self.evaluation),
            "controls": {name: _plain(report) for name, report in self.controls.items()},
        }

    def save(self, path: str | Path) -> Path:
        """Write everything as one JSON file; a number that JSON lacks becomes null."""
        return write_json(path, self.as_json())

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.verdict.sentence)}</p>{self.evaluation._repr_html_()}"


def judge(
    edited: Unlearned,
    *,
    original: LanguageModel,
    data: UnlearningData,
    oracles: Sequence[Candidate] = (),
    controls: Mapping[str, Candidate] | None = None,
    saes: Sequence[SAE] = (),
    settings: UnlearningSettings | None = None,
    rules: VerdictRules | None = None,
) -> Judgement:
    """Measure what an edit did, and say in one sentence what that amounts to.

        judgement = judge(edited, original=model, data=data, oracles=[retrained])
        print(judgement.verdict.sentence)

    Args:
        edited: from `unlearn`.
        original: the model before.
        data: questions in other forms than those that the edit was fitted on, and texts.
        oracles: models that never knew; without one, relearning and residue are not measured and
            the verdict cannot be "removed".
        controls: models that the edit is to be told from, by name, e.g. one edited through random
            latents, or the `random_edit`; their answers and texts are measured, no attack is made.
        saes: those that the edit acted through, to look at their latents before and after.
        settings: of the evaluation.
        rules: of the verdict.

    Raises:
        ConfigError: the edited model is a text encoder, which answers no questions.
    """
    if not isinstance(edited.model, LanguageModel):
        raise ConfigError(
            f"{edited.model.name} is a text encoder and answers no questions; measure probes, "
            "retrieval and quality of its embeddings instead (saetools.evaluate)"
        )
    rules, settings = rules or VerdictRules(), settings or UnlearningSettings()
    report = evaluate_unlearning(
        edited.model, original=original, data=data, oracles=oracles, settings=settings
    )
    changes: tuple[LatentChange, ...] = ()
    if saes and edited.report.plan.latents:
        changes = _latents(original, edited.model, edited.report.plan, data=data, saes=saes)
    shown: dict[str, Candidate] = {"original": original, "edited": edited.model}
    shown |= {f"oracle-{i}": oracle for i, oracle in enumerate(oracles[:1])}
    return Judgement(
        give_verdict(report, rules),
        rules,
        report,
        edited.report.as_json(),
        changes,
        checks=make_checks(report, rules),
        examples=record_examples(shown, data, batch_tokens=settings.batch_tokens),
        untested=untested(report, edited.report.request),
        controls=_controls(controls or {}, original=original, data=data, settings=settings),
        made={
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **environment(seed=edited.report.request.get("seed")),
        },
    )


def _controls(
    controls: Mapping[str, Candidate],
    *,
    original: LanguageModel,
    data: UnlearningData,
    settings: UnlearningSettings,
) -> dict[str, UnlearningReport]:
    """What controls answer, by the measures among those that were asked for."""
    wanted = settings.measures
    measures = [name for name in _OF_CONTROLS if wanted is None or name in wanted]
    some = settings.model_copy(update={"measures": tuple(measures)})
    return {
        name: evaluate_unlearning(model, original=original, data=data, settings=some)
        for name, model in controls.items()
    }


def _plain(report: UnlearningReport) -> dict[str, Any]:
    return {
        "about": report.about,
        "rows": [asdict(row) for row in report.rows],
        "curves": [asdict(curve) for curve in report.curves],
        "missing": report.missing,
    }


@torch.no_grad()
def _latents(
    original: SubjectModel,
    edited: SubjectModel,
    plan: Plan,
    *,
    data: UnlearningData,
    saes: Sequence[SAE],
) -> tuple[LatentChange, ...]:
    by_hook = checked_saes(original, tuple(saes), strict=False)
    retain = data.near or data.retain or data.forget
    rows = {
        "forget": rows_of(original, data.forget),
        "retain": rows_of(original, retain[: len(data.forget) * 2]),
    }
    changes = []
    for hook, sae in by_hook.items():
        means = {
            (side, when): read_latents(model, sae, rows[side], hook_name=hook)[1]
            for side in rows
            for when, model in (("before", original), ("after", edited))
        }
        changes += [
            LatentChange(
                hook,
                one.latent,
                before=float(means["forget", "before"][one.latent]),
                after=float(means["forget", "after"][one.latent]),
                retain_before=float(means["retain", "before"][one.latent]),
                retain_after=float(means["retain", "after"][one.latent]),
                words=" ".join(one.words),
            )
            for one in written_words(original, sae, plan.of(hook))
        ]
    return tuple(changes)
