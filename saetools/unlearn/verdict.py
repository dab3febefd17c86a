"""A verdict in one sentence, from stated rules: removed, suppressed, or not removed.

The rules are `VerdictRules`, and all that is decided is decided in `give_verdict`:

- **not removed**: efficacy E is below `min_efficacy`: the questions are still answered.
- **removed**: E is at least that, and every one of these was measured and holds: fresh probes read
  no more than `max_residue` beyond an oracle; relearning brings back no more than `1 -
  min_resistance` beyond an oracle; the form gap is no more than `max_form_gap` above the oracles'.
- **suppressed**: all else: it is not told, and at least one way to it is open or was not tried.

Damage is said in the same sentence, and every figure with its 95 % interval. **No verdict speaks of
what was not measured**: another probe, another attack, another form may find what these did not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from saetools.evaluate.unlearning import UnlearningReport
from saetools.unlearn.checks import Check, Reading, deciding, make_checks
from saetools.unlearn.rules import VerdictRules

__all__ = ["Verdict", "VerdictRules", "give_verdict"]

Word = Literal["removed", "suppressed", "not removed"]

_UNTRIED = {
    "residue": "probes",
    "relearn_resistance": "relearning",
    "form_gap": "other forms",
}


@dataclass(frozen=True)
class Verdict:
    """What can be said of an edit.

    Args:
        word: removed, suppressed or not removed.
        sentence: the same with the reasons and the damage, figures with 95 % intervals.
        open: ways by which it is still reached, a phrase each.
        unknown: what was not measured.
        damage: what the edit cost, a phrase each; () if nothing passed the limits.
    """

    word: Word
    sentence: str
    open: tuple[str, ...]
    unknown: tuple[str, ...]
    damage: tuple[str, ...]


def give_verdict(report: UnlearningReport, rules: VerdictRules | None = None) -> Verdict:
    """Judge a report by the rules above; what it lacks counts against "removed"."""
    checks = make_checks(report, rules or VerdictRules())
    efficacy = deciding(checks, "efficacy")
    found, unknown = _ways(checks)
    damage = tuple(_phrase(check) for check in checks if _failed(check) and check.role == "cost")
    if efficacy.decides is None:
        word: Word = "not removed"
        why = "whether the questions are still answered was not measured"
    elif not efficacy.passed:
        word = "not removed"
        why = f"{_left(efficacy.decides)} of what was known is still answered"
    elif found or unknown:
        word = "suppressed"
        lacks = [f"{', '.join(unknown)} not measured"] if unknown else []
        reasons = "; ".join([*found, *lacks])
        why = (
            f"the questions are no longer answered ({_left(efficacy.decides)} left), but {reasons}"
        )
    else:
        word = "removed"
        why = _removed(checks)
    sentence = f"{word.capitalize()}: {why}. {_cost(checks, damage)}"
    return Verdict(word, sentence, found, unknown, damage)


def _failed(check: Check) -> bool:
    return check.passed is False


def _ways(checks: Sequence[Check]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ways that are still open, and those that nobody tried."""
    every = [deciding(checks, figure) for figure in _UNTRIED]
    found = tuple(_phrase(check) for check in every if _failed(check))
    return found, tuple(_UNTRIED[check.figure] for check in every if check.decides is None)


def _removed(checks: Sequence[Check]) -> str:
    left, read, back = (
        deciding(checks, figure).decides for figure in ("efficacy", "residue", "relearn_resistance")
    )
    assert left is not None, "nothing is removed unmeasured"
    assert read is not None, "nothing is removed unmeasured"
    assert back is not None, "nothing is removed unmeasured"
    return (
        f"the questions are no longer answered in any form asked, {_left(left)} is left; beyond a "
        f"model that never knew, the probes that were tried read {_share(read)} and the "
        f"relearning brings back {_left(back)}, which is within the limits"
    )


def _cost(checks: Sequence[Check], damage: Sequence[str]) -> str:
    """The damage, or what says that there is none."""
    neighbours, utility = (
        deciding(checks, figure).decides for figure in ("neighbours_kept", "utility")
    )
    if damage:
        said = f"Damage: {'; '.join(damage)}."
    else:
        kept = [
            *([] if neighbours is None else [f"neighbours keep {_share(neighbours)}"]),
            *([] if utility is None else [_perplexing(utility)]),
        ]
        shown = f": {', '.join(kept)}" if kept else ""
        said = f"No damage beyond the limits was found{shown}."
    lacking = [
        *(["Neighbours were not measured."] if neighbours is None else []),
        *(["Other texts were not measured."] if utility is None else []),
    ]
    return " ".join([said, *lacking])


def _phrase(check: Check) -> str:
    """What a check that failed says."""
    value = check.decides
    assert value is not None, "a check fails by its value"
    if check.figure == "residue":
        return f"probes still read it ({_inner(value)} above a model that never knew)"
    if check.figure == "relearn_resistance":
        return f"{_left(value)} comes back on relearning"
    if check.figure == "form_gap":
        usual = 0.0 if check.oracle is None else check.oracle.value
        more = _percent(value.value - usual)
        return f"some forms give away {more} more than others (form gap {_inner(value)})"
    if check.figure == "neighbours_kept":
        return f"{_left(value)} of the neighbours' knowledge is lost"
    return _perplexing(value)


def _perplexing(utility: Reading) -> str:
    """U as times of the perplexity before; its ends change places."""
    times = [f"{1 / max(end, 1e-9):.3g}" for end in (utility.value, utility.high, utility.low)]
    ends = "" if math.isnan(utility.low) else f" ({times[1]} to {times[2]})"
    return f"other texts are {times[0]}{ends} times as perplexing"


def _left(gone: Reading) -> str:
    """What a share leaves of the whole."""
    return _share(Reading(1 - gone.value, 1 - gone.high, 1 - gone.low))


def _share(one: Reading) -> str:
    if math.isnan(one.low):
        return _percent(one.value)
    return f"{_percent(one.value)} ({round(100 * one.low)} to {_percent(one.high)})"


def _inner(one: Reading) -> str:
    """The same where it stands in brackets already."""
    return _share(one).replace(" (", ", ").removesuffix(")")


def _percent(share: float) -> str:
    return f"{round(100 * share)} %"
