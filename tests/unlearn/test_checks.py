"""Checks hold the verdict's figures against its limits, and say where the verdict would turn."""

import math

import pytest

from saetools.corpus import Question
from saetools.evaluate.unlearning import UnlearningReport, UnlearningRow
from saetools.unlearn import VerdictRules, give_verdict
from saetools.unlearn.checks import deciding, make_checks
from saetools.unlearn.request import describe_request
from saetools.unlearn.untested import untested

GOOD = {
    "efficacy": 1.0,
    "form_gap": 0.05,
    "neighbours_kept": 0.99,
    "utility": 0.99,
    "residue": 0.02,
    "relearn_resistance": 0.95,
}
RULES = VerdictRules()


def row(
    name: str, value: float, *, model: str = "edited", detail: str = "", width: float = math.nan
) -> UnlearningRow:
    return UnlearningRow(name, model, detail, value, value - width, value + width, "none", name)


def report(*more: UnlearningRow, width: float = math.nan, **figures: float) -> UnlearningReport:
    rows = [row(name, value, width=width) for name, value in {**GOOD, **figures}.items()]
    return UnlearningReport((*rows, row("form_gap", 0.1, model="oracle-0"), *more))


@pytest.mark.parametrize("figure", GOOD)
def test_the_verdict_turns_exactly_at_the_limit_of_its_check(figure: str):
    check = deciding(make_checks(report(), RULES), figure)
    assert check.passed
    assert check.limit is not None
    step = 1e-9 if check.better == "higher" else -1e-9
    inside, outside = report(**{figure: check.limit + step}), report(**{figure: check.limit - step})
    assert deciding(make_checks(inside, RULES), figure).passed
    assert not deciding(make_checks(outside, RULES), figure).passed
    for one, holds in ((inside, True), (outside, False)):
        verdict = give_verdict(one, RULES)
        assert (verdict.word == "removed" and verdict.damage == ()) is holds


def test_the_limit_of_the_form_gap_lies_above_the_gap_that_oracles_have():
    check = deciding(make_checks(report(), RULES), "form_gap")
    assert check.limit == pytest.approx(RULES.max_form_gap + 0.1)


def test_an_interval_across_the_limit_is_not_clear():
    tight, wide = (report(width=w, utility=0.96) for w in (0.005, 0.02))
    assert deciding(make_checks(tight, RULES), "utility").clear is True
    assert deciding(make_checks(wide, RULES), "utility").clear is False
    assert deciding(make_checks(report(), RULES), "utility").clear is None


def test_scores_before_after_and_of_a_model_that_never_knew_stand_beside_a_check():
    more = [
        row("accuracy", value, model=model, detail="forget")
        for model, value in (("original", 0.9), ("edited", 0.2), ("oracle-0", 0.1))
    ]
    check = deciding(make_checks(report(*more), RULES), "efficacy")
    found = [check.before, check.after, check.oracle]
    assert [one.value for one in found if one] == [0.9, 0.2, 0.1]


def test_the_probe_that_reads_more_is_the_one_that_is_shown():
    more = [
        row("probe_accuracy", value, model=model, detail=f"{kind}, layer 3")
        for kind, both in (("logistic", (0.2, 0.1)), ("mlp", (0.6, 0.1)))
        for model, value in zip(("edited", "oracle-0"), both, strict=True)
    ]
    check = deciding(make_checks(report(*more), RULES), "residue")
    assert "mlp" in check.scored
    assert check.after is not None
    assert check.after.value == 0.6


def test_forms_and_other_measures_are_checks_that_decide_nothing():
    more = [row("forgetting", 0.5, detail="reversed"), row("in_context", 0.3)]
    told = [check for check in make_checks(report(*more), RULES) if not check.figure]
    assert [check.name for check in told] == ["Form: reversed", "Told in the context"]
    assert all(check.passed is None for check in told)


def test_the_sentence_has_the_intervals():
    sentence = give_verdict(report(width=0.05, efficacy=0.95)).sentence
    assert "5 % (0 to 10 %) is left" in sentence
    assert "read 2 % (-3 to 7 %)" in sentence
    assert "neighbours keep 99 % (94 to 104 %)" in sentence
    open_ = give_verdict(report(width=0.05, relearn_resistance=0.7)).sentence
    assert "30 % (25 to 35 %) comes back on relearning" in open_
    damaged = give_verdict(report(width=0.1, utility=0.5)).sentence
    assert "other texts are 2 (1.67 to 2.5) times as perplexing" in damaged


def test_what_was_not_tried_names_measures_forms_and_what_no_measure_tries():
    found = UnlearningReport(
        (row("forgetting", 0.5, detail="question"),),
        {"verbatim": "no forget_texts were given"},
        about={"n_forget_questions": 3, "n_forget_entities": 2},
    )
    request = {"forget": {"forms": {"question": 2, "reversed": 2}}}
    told = {one.what: one.why for one in untested(found, request)}
    verbatim = told["Verbatim continuation of forget texts"]
    assert verbatim == "no forget_texts were given (`verbatim`)"
    assert "The forms reversed" in told
    assert "3 questions about 2 entities" in told["What nobody asked"]
    assert any("Quantisation" in what for what in told)


def test_a_request_is_told_by_number_names_samples_and_hash():
    forget = [Question(f"{who} lives in", " Ulm", entity=who, form="a") for who in ("Ada", "Bob")]
    told = describe_request(forget, ["A text."], saes=(), seed=3, max_perplexity_ratio=None)
    assert told["seed"] == 3
    assert told["forget"]["entities"] == ["Ada", "Bob"]
    assert told["forget"]["forms"] == {"a": 2}
    assert told["forget"]["samples"] == ["Ada lives in Ulm", "Bob lives in Ulm"]
    assert (told["retain"]["n_questions"], told["retain"]["n_texts"]) == (0, 1)
    again = describe_request(forget, ["A text!"], saes=(), seed=3, max_perplexity_ratio=None)
    assert again["forget"]["fingerprint"] == told["forget"]["fingerprint"]
    assert again["retain"]["fingerprint"] != told["retain"]["fingerprint"]


def test_few_samples_stand_for_many_texts():
    told = describe_request(
        ["one."], [f"text {i}" for i in range(500)], saes=(), seed=0, max_perplexity_ratio=1.5
    )
    assert 5 <= len(told["retain"]["samples"]) <= 6
