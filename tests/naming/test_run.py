"""Names come with who gave them and their scores, from a user's own namer too."""

import pytest

from saetools.errors import ConfigError
from saetools.naming import NAMERS, Name, NamerConfig, NamingContext, name_latents


def test_only_live_latents_are_named_and_by_whom_is_said(planted, number):
    names = name_latents(planted)
    assert names.get(number("dead")) is None
    assert {name.latent for name in names} <= set(planted.live.tolist())
    assert {name.namer for name in names} == {"top_tokens"}


def test_a_namer_of_the_user_is_found_and_scored(planted, number, monkeypatch):
    class Constant:
        Config = NamerConfig

        @staticmethod
        def name(context, latents, config):
            return [Name(j, "pens", 1.0, "says so", "?", "word", ("pen",)) for j in latents]

    monkeypatch.setitem(NAMERS._table, "constant", Constant)
    name = name_latents(planted, namer="constant").get(number("token"))
    assert name.namer == "constant"
    assert name.held_out_precision == pytest.approx(1.0)


@pytest.mark.parametrize("part", ["sae", "model", "store"])
def test_a_missing_part_is_named(planted, part):
    context = NamingContext(planted)
    with pytest.raises(ConfigError, match=f"'mine' needs the .*{part}= to name_latents"):
        getattr(context, f"need_{part}")("mine")
