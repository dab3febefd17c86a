"""Planted latents get exactly the name of their rule."""

from dataclasses import replace

import numpy as np
import pytest

from saetools.errors import ConfigError, UnknownNameError
from saetools.naming import name_latents
from saetools.naming.namers.top_tokens import log_odds_z


@pytest.mark.parametrize(
    ("rule", "name", "confidence"),
    [
        ("token", '"pen"', 1.0),
        ("bigram", '"new york"', 1.0),
        ("previous", 'after "the"', 1.0),
        ("next", 'before "pen"', 1.0),
        ("frozen_pair", '"jersey"', 1.0),
        ("pieces", '"drawing"', 1.0),
        ("train_only", '"rare"', 1.0),
        ("label", "in turtle", None),
    ],
)
def test_a_planted_rule_is_named_exactly(planted, number, rule, name, confidence):
    found = name_latents(planted).get(number(rule))
    assert found.name == name
    assert found.namer == "top_tokens"
    if confidence is not None:
        assert found.confidence == pytest.approx(confidence)


def test_a_word_beside_is_no_name_where_it_tells_less_than_a_word(planted, number):
    """All of it comes after "new", but it fires on half of what does, and on every "jersey"."""
    found = name_latents(planted).get(number("mostly"))
    after = planted.units["previous"].of(number("mostly"))
    assert after.text[0] == "new"
    assert after.mass[0] == pytest.approx(planted.stats.mass_train[number("mostly")])
    assert found.unit == "word"
    assert found.words[0] == "jersey"


def test_a_topic_is_its_words_and_its_label(planted, number):
    found = name_latents(planted).get(number("topic"))
    words, label = found.name.split(" · ")
    assert set(words.split(", ")) == {"turtle", "draw", "pen"}
    assert label == "in turtle"
    assert "AUROC 1.00" in found.rationale
    assert found.confidence == pytest.approx(1.0)


def test_dead_latents_get_no_name_and_noise_no_confidence(planted, number):
    names = name_latents(planted)
    assert names.get(number("dead")) is None
    noise = names.get(number("noise"))
    assert noise.name.startswith("unclear (")
    assert noise.confidence == 0


def test_every_confidence_is_a_fraction_and_every_rationale_a_sentence(planted):
    for name in name_latents(planted):
        assert 0 <= name.confidence <= 1
        assert len(name.rationale) > 20


def test_only_the_latents_asked_for_are_named(planted, number):
    names = name_latents(planted, latents=[number("bigram"), number("dead"), number("token")])
    assert [name.latent for name in names] == [number("token"), number("bigram")]


def test_bad_requests_are_refused(planted):
    with pytest.raises(UnknownNameError, match="no namer named 'top_token'"):
        name_latents(planted, namer="top_token")
    with pytest.raises(UnknownNameError, match="no latent 99"):
        name_latents(planted, latents=[99])
    with pytest.raises(ConfigError, match="namer 'top_tokens': minz: unknown key"):
        name_latents(planted, minz=3)
    with pytest.raises(ConfigError, match="coverage = 2 is out of range"):
        name_latents(planted, coverage=2)


def test_names_do_not_look_at_held_out_documents(planted):
    hidden = replace(
        planted,
        label_table=replace(
            planted.label_table, auroc_held_out=np.full_like(planted.auroc_held_out, 0.5)
        ),
        units={
            unit: replace(table, mass_held_out=np.zeros_like(table.mass_held_out))
            for unit, table in planted.units.items()
        },
        stats=replace(planted.stats, mass_held_out=np.zeros_like(planted.stats.mass_held_out)),
    )
    seen = [(n.latent, n.name, n.confidence, n.rationale) for n in name_latents(planted)]
    assert seen == [(n.latent, n.name, n.confidence, n.rationale) for n in name_latents(hidden)]


def test_z_of_equal_shares_is_zero_and_a_rare_word_seen_once_is_no_evidence():
    z = log_odds_z(
        np.array([10.0, 1.0, 30.0]), 100.0, np.array([100.0, 0.0, 10.0]), 1000.0, prior=500.0
    )
    assert abs(z[0]) < 1e-9
    assert 0 < z[1] < 3
    assert z[2] > 5


def test_a_word_seen_in_held_out_documents_only_is_no_evidence():
    with np.errstate(all="raise"):
        z = log_odds_z(np.array([0.0, 5.0]), 9.0, np.array([0.0, 1.0]), 9900.0, prior=500.0)
    assert z[0] == 0
    assert z[1] > 3


def test_z_equals_the_formula_written_out():
    count, total, background, rest, prior = 7.0, 50.0, 20.0, 4000.0, 300.0
    alpha = prior * 27 / 4050
    here, there = count + alpha, background + alpha
    delta = np.log(here / (total + prior - here)) - np.log(there / (rest + prior - there))
    wanted = delta / np.sqrt(1 / here + 1 / there)
    found = log_odds_z(np.array([count]), total, np.array([background]), rest, prior=prior)
    assert found[0] == pytest.approx(wanted)


def test_a_word_on_which_the_latent_always_fires_is_not_held_against_it() -> None:
    """Against the silent tokens such a word would have no background and a huge variance."""
    counts = np.array([145.0, 54.0])  # always fires on the first; on half of the second
    z = log_odds_z(counts, 3200.0, np.array([340.0, 240.0]), 150_000.0, prior=500.0)
    assert z[0] > z[1] > 3
