"""A verdict follows from stated rules, and what was not measured counts against "removed"."""

import math

import pytest

from saetools.evaluate.unlearning import UnlearningReport, UnlearningRow
from saetools.unlearn import VerdictRules, give_verdict

GOOD = {
    "efficacy": 1.0,
    "form_gap": 0.05,
    "neighbours_kept": 0.99,
    "utility": 0.99,
    "residue": 0.02,
    "relearn_resistance": 0.95,
}


def report(**figures: float | None) -> UnlearningReport:
    values = {**GOOD, **figures}
    rows = [
        UnlearningRow(name, "edited", "", value, math.nan, math.nan, "none", "")
        for name, value in values.items()
        if value is not None
    ]
    oracle = UnlearningRow("form_gap", "oracle-0", "", 0.1, math.nan, math.nan, "lower", "")
    return UnlearningReport((*rows, oracle))


def test_what_holds_everywhere_is_removed():
    verdict = give_verdict(report())
    assert verdict.word == "removed"
    assert verdict.sentence.startswith("Removed: ")
    assert not (verdict.open)
    assert not (verdict.unknown)
    assert not (verdict.damage)


def test_what_is_still_answered_is_not_removed():
    verdict = give_verdict(report(efficacy=0.6))
    assert verdict.word == "not removed"
    assert "40 %" in verdict.sentence


@pytest.mark.parametrize(
    ("figure", "value", "says"),
    [
        ("residue", 0.4, "probes still read it (40 %"),
        ("relearn_resistance", 0.3, "70 % comes back on relearning"),
        ("form_gap", 0.6, "some forms give away 50 %"),
    ],
)
def test_one_open_way_makes_it_suppressed(figure: str, value: float, says: str):
    verdict = give_verdict(report(**{figure: value}))
    assert verdict.word == "suppressed"
    assert says in verdict.sentence


@pytest.mark.parametrize("figure", ["residue", "relearn_resistance", "form_gap"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_what_was_not_measured_cannot_be_called_removed(figure: str, value: float | None):
    verdict = give_verdict(report(**{figure: value}))
    assert verdict.word == "suppressed"
    assert "not measured" in verdict.sentence
    assert verdict.unknown


def test_damage_is_said_in_the_same_sentence():
    verdict = give_verdict(report(neighbours_kept=0.5, utility=0.25))
    assert verdict.word == "removed"
    assert "50 % of the neighbours' knowledge is lost" in verdict.sentence
    assert "4 times as perplexing" in verdict.sentence


def test_the_rules_can_be_stricter():
    assert give_verdict(report(), VerdictRules(max_residue=0.01)).word == "suppressed"
