"""True names score high, names of other latents do not, and mistakes of a judge show."""

from dataclasses import replace

import numpy as np
import pytest

from saetools.errors import ChatError, ConfigError, UnknownNameError
from saetools.naming import Name
from saetools.naming.chat import Budget, Budgeted
from saetools.naming.scores import SCORERS, EvidenceConfig, score_names

CONFIG = EvidenceConfig(n_activating=40, n_silent=40, window=5)
SEEN_BY_JUDGES = ("pen", "after_the", "new_york", "before_jersey")


@pytest.mark.parametrize("name", SCORERS.names())
def test_every_scorer_has_frozen_settings_and_says_what_it_needs(name):
    plug_in = SCORERS.get(name)
    assert plug_in.Config.model_config["frozen"]
    assert plug_in.Config.model_config["extra"] == "forbid"
    assert set(plug_in.needs) <= {"chat", "model", "sae"}


@pytest.mark.parametrize("rule", [*SEEN_BY_JUDGES, "pen_or_ink", "turtle"])
def test_a_true_claim_is_right_and_others_are_not(index, names, latent, rule):
    score = score_names(index, names, evidence=CONFIG).of(latent(rule), "predicate")
    if rule == "turtle":  # the label is all that the latent knows; it is silent in most of it
        assert score.details["recall"] == 1
        assert score.value > 0.8
    else:
        assert score.value == 1
        assert score.low > 0.9
    assert score.details["recall"] == 1
    for control in (score.random_name, score.swapped_name):
        assert np.isnan(control) or control < 0.8


def test_near_misses_tell_a_name_that_is_too_wide(index, names, latent):
    wide = replace(names[latent("pen")], words=("pen", "ink"))
    narrow = score_names(index, names, evidence=CONFIG).of(latent("pen"), "predicate")
    found = score_names(index, [wide, *names[1:]], evidence=CONFIG).of(latent("pen"), "predicate")
    assert found.value <= 0.9 < narrow.value
    far = CONFIG.model_copy(update={"near_miss_fraction": 0.0})
    lenient = score_names(index, [wide, *names[1:]], evidence=far).of(latent("pen"), "predicate")
    assert lenient.value > found.value


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
@pytest.mark.parametrize("rule", SEEN_BY_JUDGES)
def test_a_judge_who_knows_tells_the_true_name_from_a_random_one(
    index, names, latent, judge, scorer, rule
):
    # pen_or_ink shares a word with pen: as another name it would be half right.
    others = [name for name in names if name.name != "pen_or_ink"]
    table = score_names(index, others, scorers=[scorer], chat=judge(), evidence=CONFIG)
    score = table.of(latent(rule), scorer)
    assert score.details["auc"] >= 0.95
    assert score.value >= 0.95
    # Contexts have other latents' words in them by chance, and marks of wrong tokens do not fit
    # wrong names either: half is what a wrong name gets, in the mean.
    controls = [s.random_name for s in table if np.isfinite(s.random_name)]
    assert np.mean(controls) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
def test_the_score_falls_with_the_share_of_flipped_answers(index, names, latent, judge, scorer):
    values = [
        score_names(
            index,
            names[:1],
            scorers=[scorer],
            chat=judge(flip=flip),
            evidence=CONFIG,
        )
        .of(latent("pen"), scorer)
        .value
        for flip in (0.0, 0.15, 0.3, 0.5)
    ]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4
    assert values[0] == 1
    assert values[-1] == pytest.approx(0.5, abs=0.12)


def test_simulation_of_a_rule_correlates_and_of_another_does_not(index, names, latent, judge):
    table = score_names(index, names, scorers=["simulation"], chat=judge(), evidence=CONFIG)
    score = table.of(latent("pen"), "simulation")
    assert score.value > 0.9
    assert score.low > 0.8
    assert table.of(latent("new_york"), "simulation").value > 0.9
    other = replace(names[latent("pen")], name="before_jersey")
    wrong = score_names(index, [other], scorers=["simulation"], chat=judge(), evidence=CONFIG)
    assert abs(wrong.of(latent("pen"), "simulation").value) < 0.2


def test_an_answer_that_is_no_list_is_asked_for_once_more_then_counts_as_none(index, names, judge):
    knowing = judge()
    asked = []

    def sometimes(messages):
        asked.append(len(messages))
        if len(messages) == 2 and len(asked) % 2:
            return "[1, 0]"  # too short: asked again
        return knowing(messages)

    table = score_names(index, names[:1], scorers=["detection"], chat=sometimes, evidence=CONFIG)
    assert 4 in asked
    assert table.of(0, "detection").value == 1
    assert table.of(0, "detection").details["n_unanswered"] == 0

    silent = score_names(
        index, names[:1], scorers=["detection"], chat=lambda messages: "?", evidence=CONFIG
    )
    assert silent.of(0, "detection").status == "unanswered"
    assert np.isnan(silent.of(0, "detection").value)

    half = iter(range(10_000))

    def deaf(messages):
        return "no" if (next(half) // 2) % 2 else knowing(messages[:2])

    partly = score_names(index, names[:1], scorers=["detection"], chat=deaf, evidence=CONFIG)
    score = partly.of(0, "detection")
    assert score.details["n_unanswered"] > 0
    assert score.value == 1  # what was answered was right; nothing unanswered counted as wrong


def test_a_judge_out_of_reach_is_an_error_and_one_that_tires_is_not(index, names, judge):
    def nobody(messages):
        raise ChatError("nobody is there")

    with pytest.raises(ChatError, match="nobody"):
        score_names(index, names[:1], scorers=["detection"], chat=nobody, evidence=CONFIG)
    tired = Budgeted(judge(), Budget(max_requests=3))
    table = score_names(index, names[:2], scorers=["detection"], chat=tired, evidence=CONFIG)
    score = table.of(0, "detection")
    assert score.n_positive + score.n_negative == 15
    assert score.value == 1
    assert table.of(1, "detection").status == "unanswered"


def test_error_rates_count_every_held_out_word(index, names, latent):
    wide = replace(names[latent("pen")], words=("pen", "ink"))
    narrow = replace(names[latent("pen_or_ink")], words=("pen",))
    table = score_names(
        index, [wide, narrow, *names[1:5]], scorers=["observational"], evidence=CONFIG
    )
    held = [d for d, h in zip(index.documents, index.docs.held_out, strict=True) if h]
    pens, inks = (sum(d.count(w) for d in held) for w in ("pen", "ink"))
    found = table.of(latent("pen"), "observational")
    assert found.details["type_1"] == 0
    assert found.details["type_2"] == pytest.approx(inks / (pens + inks))
    found = table.of(latent("pen_or_ink"), "observational")
    assert found.details["type_1"] == pytest.approx(inks / (pens + inks))
    assert found.details["type_2"] == 0
    assert found.low <= found.value <= found.high
    assert table.of(latent("after_the"), "observational").value == 1
    turtle = table.of(latent("turtle"), "observational")
    assert turtle.details["recall"] == 1
    assert turtle.details["precision"] == pytest.approx(0.1, abs=0.03)


def test_a_name_that_claims_nothing_is_not_scored_by_its_claim(index, judge):
    free = Name(0, "pen", 1.0, "", "llm")
    table = score_names(
        index, [free], scorers=["predicate", "detection"], chat=judge(), evidence=CONFIG
    )
    assert table.of(0, "predicate").status == "no claim"
    assert table.of(0, "detection").value == 1


def test_a_name_of_confidence_zero_is_no_name(index, names):
    assert len(score_names(index, [replace(names[0], confidence=0.0)], evidence=CONFIG)) == 0


def test_what_a_scorer_lacks_is_said_before_any_work(index, names):
    with pytest.raises(ConfigError, match="needs a judge"):
        score_names(index, names, scorers=["predicate", "detection"])
    with pytest.raises(UnknownNameError, match="no latent 99"):
        score_names(index, names, latents=[99])
    with pytest.raises(ConfigError, match="not among the scorers"):
        score_names(index, names, settings={"fuzzing": {"batch": 2}})
    with pytest.raises(UnknownNameError, match="detection"):
        score_names(index, names, scorers=["detektion"])
