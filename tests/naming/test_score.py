"""A true name explains held-out activation, another latent's name does not."""

import math
from dataclasses import replace

import pytest

from saetools.naming import Name, name_latents
from saetools.naming.score import precision, scored


def test_true_names_hold_and_swapped_names_do_not(planted, number):
    names = name_latents(planted)
    for rule in ("token", "bigram", "previous", "frozen_pair", "pieces", "next"):
        name = names.get(number(rule))
        assert name.held_out_precision == pytest.approx(1.0)
        assert name.swapped_precision < 0.2


def test_precision_is_the_share_of_held_out_activation(planted, number):
    latent = number("topic")
    rows = planted.units["word"].of(latent)
    name = Name(latent, "x", 1.0, "", "manual", unit="word", words=("pen",))
    wanted = rows.held_out_mass[rows.text.index("pen")] / planted.stats.mass_held_out[latent]
    assert 0 < wanted < 1
    assert precision(planted, latent, name) == pytest.approx(wanted)


def test_a_latent_that_is_silent_in_held_out_documents_has_no_score(planted, number):
    name = name_latents(planted).get(number("train_only"))
    assert math.isnan(name.held_out_precision)
    assert math.isnan(name.swapped_precision)


def test_a_name_without_words_has_no_score(planted, number):
    assert math.isnan(name_latents(planted).get(number("label")).held_out_precision)


def test_a_name_is_never_its_own_control(planted, number):
    token = name_latents(planted).get(number("token"))
    alone = scored(planted, [token])
    assert math.isnan(alone[0].swapped_precision)
    twin = replace(token, latent=number("noise"))
    assert all(math.isnan(name.swapped_precision) for name in scored(planted, [token, twin]))
