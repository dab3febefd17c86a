"""Every way by which an edit was doubted, and what each cost: scores, limit, passed or not.

A check that decides has the figure that the verdict looks at and the value at which the verdict
would turn. The others are what else was measured: they decide nothing, and a reader may want them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from saetools.evaluate.unlearning import UnlearningReport, UnlearningRow
from saetools.unlearn.rules import VerdictRules

__all__ = ["Check", "Reading", "deciding", "make_checks"]

Role = Literal["gone", "cost"]


@dataclass(frozen=True)
class Reading:
    """A value with its 95 % interval, whose ends are NaN where it is exact or unknown."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Check:
    """One way to doubt an edit.

    Args:
        name: of the check, for people.
        asks: the question that it puts, in a sentence.
        role: whether it looks for what should be gone, or at what that cost.
        scored: what `before`, `after` and `oracle` count; "" if there are no such scores.
        before: of the original model.
        after: of the edited model.
        oracle: of a model that never knew, the mean of several.
        figure: the figure that is held against the limit; "" if the check decides nothing.
        decides: its value.
        limit: where the verdict turns; None if the check decides nothing.
        better: which side of the limit passes; a value on the limit does.
        missing: why it was not measured.
    """

    name: str
    asks: str
    role: Role
    scored: str = ""
    before: Reading | None = None
    after: Reading | None = None
    oracle: Reading | None = None
    figure: str = ""
    decides: Reading | None = None
    limit: float | None = None
    better: Literal["higher", "lower"] = "lower"
    missing: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the figure is on the right side of the limit."""
        if self.decides is None or self.limit is None:
            return None
        value = self.decides.value
        return value >= self.limit if self.better == "higher" else value <= self.limit

    @property
    def clear(self) -> bool | None:
        """Whether its whole interval is on one side of the limit; None without an interval."""
        if self.decides is None or self.limit is None or math.isnan(self.decides.low):
            return None
        return not (self.decides.low < self.limit < self.decides.high)


def make_checks(report: UnlearningReport, rules: VerdictRules) -> tuple[Check, ...]:
    """All checks that a report allows; those that decide are there even if not measured."""
    read = _Readings(report)
    return (
        read.deciding("efficacy", limit=rules.min_efficacy, scores=read.accuracy("forget")),
        *read.by_form(),
        read.deciding("form_gap", limit=rules.max_form_gap + read.usual_gap, scores=read.gaps()),
        read.deciding("residue", limit=rules.max_residue, scores=read.probes()),
        read.deciding(
            "relearn_resistance", limit=rules.min_resistance, scores=read.scores("recovery")
        ),
        *read.others(),
        read.deciding(
            "neighbours_kept", limit=rules.min_neighbours, scores=read.accuracy("neighbours")
        ),
        *read.kept(),
        read.deciding("utility", limit=rules.min_utility, scores=read.scores("ce")),
    )


def deciding(checks: Sequence[Check], figure: str) -> Check:
    """The check that holds a figure against its limit."""
    return next(check for check in checks if check.figure == figure)


@dataclass(frozen=True)
class _Scores:
    scored: str
    before: Reading | None = None
    after: Reading | None = None
    oracle: Reading | None = None


_NONE = _Scores("")
_DECIDING: dict[str, tuple[str, str, Role, Literal["higher", "lower"]]] = {
    "efficacy": (
        "Asked outright",
        "Is the right answer still the most probable one?",
        "gone",
        "higher",
    ),
    "form_gap": (
        "All forms alike",
        "Does some form of the question give away more than the others?",
        "gone",
        "lower",
    ),
    "residue": (
        "Read by fresh probes",
        "Can a probe, trained on other entities, read the answer off the activations?",
        "gone",
        "lower",
    ),
    "relearn_resistance": (
        "Taught a part again",
        "Does the rest come back when some of the forgotten entities are taught again?",
        "gone",
        "higher",
    ),
    "neighbours_kept": (
        "Neighbours",
        "Are the same attributes of other entities still answered?",
        "cost",
        "higher",
    ),
    "utility": ("Other texts", "Is it as good a model of other texts as it was?", "cost", "higher"),
}
_OTHERS: dict[str, tuple[str, str]] = {
    "probability": ("Probability of the answer", "How probable is the right answer itself?"),
    "in_context": ("Told in the context", "Is it answered once the fact stands in the prompt?"),
    "verbatim": ("Continued at length", "Is a forget text continued by heart?"),
    "knowledge": ("Answered freely", "Does a generated answer hold the right one?"),
    "extraction_strength": ("Extracted", "From how short a beginning is the rest recited?"),
    "exact_memorisation": ("Recited", "How many tokens of a forget text are predicted?"),
    "truth_ratio": ("True beside false", "Is the true answer likelier than false ones?"),
    "privacy_leak": ("Membership", "Do forget texts stand out as read, or as destroyed?"),
    "forget_quality": ("Like a model that never knew", "Do truth ratios differ from an oracle's?"),
    "kl_to_oracle": ("Distance to an oracle", "How far are its predictions from an oracle's?"),
}


class _Readings:
    """Figures of a report by name, model and detail."""

    def __init__(self, report: UnlearningReport) -> None:
        self.report = report
        self.oracles = tuple(
            dict.fromkeys(row.model for row in report.rows if row.model.startswith("oracle"))
        )

    def rows(self, name: str, model: str) -> list[UnlearningRow]:
        """Those with a value."""
        return [
            row
            for row in self.report.rows
            if (row.name, row.model) == (name, model) and not math.isnan(row.value)
        ]

    def own(self, name: str, *, model: str = "edited", detail: str | None = None) -> Reading | None:
        """The first figure of that name; None if there is none."""
        for row in self.rows(name, model):
            if detail is None or row.detail == detail or row.detail.startswith(f"{detail},"):
                return Reading(row.value, row.low, row.high)
        return None

    def oracle(self, name: str, *, detail: str | None = None) -> Reading | None:
        """Of the oracle; of several their mean, without an interval."""
        every = [self.own(name, model=model, detail=detail) for model in self.oracles]
        found = [one for one in every if one is not None]
        if len(found) < 2:
            return found[0] if found else None
        return Reading(sum(one.value for one in found) / len(found))

    def scores(self, name: str, *, detail: str | None = None, scored: str = "") -> _Scores:
        """One figure of all three kinds of model."""
        rows = self.rows(name, "edited")
        if not rows:
            return _NONE
        return _Scores(
            scored or rows[0].meaning,
            self.own(name, model="original", detail=detail),
            self.own(name, detail=detail),
            self.oracle(name, detail=detail),
        )

    def accuracy(self, group: str) -> _Scores:
        """Share of right answers to a group of questions."""
        return self.scores("accuracy", detail=group, scored="share of questions answered right")

    @property
    def usual_gap(self) -> float:
        """The form gap of models that never knew, which is noise; 0 without one."""
        found = self.oracle("form_gap")
        return 0.0 if found is None else found.value

    def gaps(self) -> _Scores:
        """Form gaps; the original has none, for it has forgotten nothing."""
        return self.scores("form_gap")

    def probes(self) -> _Scores:
        """Accuracy of the probe that reads more above the oracles than the other."""
        kinds = dict.fromkeys(
            row.detail.split(",")[0] for row in self.rows("probe_accuracy", "edited")
        )
        every = [
            self.scores("probe_accuracy", detail=kind, scored=f"accuracy of the {kind} probe")
            for kind in kinds
        ]
        return max(every, key=_excess) if every else _NONE

    def deciding(self, name: str, *, limit: float, scores: _Scores) -> Check:
        """A check that the verdict looks at."""
        title, asks, role, better = _DECIDING[name]
        decides = self.own(name)
        missing = "" if decides is not None else self.report.missing.get(name, _NOT_MEASURED)
        return Check(
            title,
            asks,
            role,
            scored=scores.scored,
            before=scores.before,
            after=scores.after,
            oracle=scores.oracle,
            figure=name,
            decides=decides,
            limit=limit,
            better=better,
            missing=missing,
        )

    def by_form(self) -> Iterator[Check]:
        """How much of each form's answers is gone; the gap between them decides."""
        for row in self.rows("forgetting", "edited"):
            if row.detail not in ("least", "mean"):
                asks = "How much of the answers' probability is gone when asked in this form?"
                yield _told(
                    f"Form: {row.detail}", asks, self.scores("forgetting", detail=row.detail)
                )

    def others(self) -> Iterator[Check]:
        """What else was measured of what should be gone."""
        for name, (title, asks) in _OTHERS.items():
            for row in self.rows(name, "edited"):
                if name == "probability" and row.detail != "forget":
                    continue
                label = f"{title}: {row.detail}" if row.detail not in ("", "forget") else title
                yield _told(label, asks, self.scores(name, detail=row.detail))

    def kept(self) -> Iterator[Check]:
        """Questions about anything else."""
        if self.own("accuracy", detail="retain") is not None:
            asks = "Are questions about anything else still answered?"
            yield _told("Everything else", asks, self.accuracy("retain"), role="cost")


_NOT_MEASURED = "it gave no number"


def _told(name: str, asks: str, scores: _Scores, *, role: Role = "gone") -> Check:
    """A check that decides nothing."""
    return Check(name, asks, role, scores.scored, scores.before, scores.after, scores.oracle)


def _excess(scores: _Scores) -> float:
    after = math.nan if scores.after is None else scores.after.value
    return after - (0.0 if scores.oracle is None else scores.oracle.value)
