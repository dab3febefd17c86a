"""Every namer keeps the promises of a namer; a broken one is caught."""

from dataclasses import replace

import pytest

from saetools.naming import NAMERS, Name, NamerConfig
from saetools.testing import check_namer, naming_subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return naming_subject(tmp_path_factory.mktemp("subject"))


def _answer(messages):
    return f"[EXPLANATION]: {len(messages[-1]['content'])} characters"


@pytest.fixture
def fields(tmp_path):
    """Settings of the namers that do nothing without."""
    path = tmp_path / "mine.csv"
    path.write_text('latent,name,unit,words,label\n3,ships,word,"[""ship""]",sea\n5,farms,,,\n')
    return {"manual": {"path": str(path)}, "llm": {"chat": _answer, "contrast": "neighbours"}}


@pytest.mark.parametrize("namer", NAMERS.names())
def test_a_namer_keeps_its_promises(namer, subject, fields, tmp_path):
    check_namer(namer, folder=tmp_path, subject=subject, **fields.get(namer, {}))
    plug_in = NAMERS.get(namer)
    config = plug_in.Config(**fields.get(namer, {}))
    assert plug_in.name(subject, subject.index.live.tolist(), config), "else nothing was checked"


class _Honest:
    Config = NamerConfig

    @staticmethod
    def name(context, latents, config):
        return [Name(j, "it", 0.5, "says so", "?") for j in latents]


class _Peeks(_Honest):
    @staticmethod
    def name(context, latents, config):
        held = context.index.stats.mass_held_out
        return [Name(j, f"{held[j]:.3f}", 0.5, "says so", "?") for j in latents]


class _Counts(_Honest):
    @staticmethod
    def name(context, latents, config):
        return [Name(j, f"one of {len(latents)}", 0.5, "says so", "?") for j in latents]


class _NamesTheDead(_Honest):
    @staticmethod
    def name(context, latents, config):
        return [Name(context.index.n_latents, "it", 0.5, "says so", "?")]


class _Certain(_Honest):
    @staticmethod
    def name(context, latents, config):
        return [replace(name, confidence=1.5) for name in _Honest.name(context, latents, config)]


class _Silent(_Honest):
    @staticmethod
    def needs(config):
        return ("model",)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (_Peeks, "held-out documents do not shape a name"),
        (_Counts, "does not depend on which others"),
        (_NamesTheDead, "only latents that were asked for"),
        (_Certain, "between 0 and 1"),
        (_Silent, "without its model"),
    ],
)
def test_a_broken_promise_is_named(broken, promise, subject, tmp_path, monkeypatch):
    monkeypatch.setitem(NAMERS._table, "mine", _Honest)
    check_namer("mine", folder=tmp_path, subject=subject)
    monkeypatch.setitem(NAMERS._table, "mine", broken)
    with pytest.raises(AssertionError, match=promise):
        check_namer("mine", folder=tmp_path, subject=subject)
