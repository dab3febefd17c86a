"""Labels, a person's CSV, and several namers in order."""

from dataclasses import replace

import numpy as np
import pytest

from saetools.errors import ConfigError, FormatError
from saetools.naming import NAMERS, Name, NamerConfig, name_latents


def test_the_latents_of_a_label_are_named_by_it_and_noise_is_not(planted, number):
    names = name_latents(planted, namer="labels")
    for rule in ("topic", "label"):
        name = names.get(number(rule))
        assert (name.name, name.label, name.words) == ("in turtle", "turtle", ())
        assert name.confidence == pytest.approx(1.0, abs=0.01)
        assert "q " in name.rationale
    assert names.get(number("noise")) is None
    assert names.get(number("train_only")) is None


def test_a_label_needs_effect_and_evidence(planted, number):
    latent = number("topic")
    q = np.full_like(planted.label_table.q_train, 0.5)
    doubtful = replace(planted, label_table=replace(planted.label_table, q_train=q))
    assert name_latents(doubtful, namer="labels").get(latent) is None
    assert name_latents(doubtful, namer="labels", max_q=0.5).get(latent).label == "turtle"


def test_without_labels_that_is_said(planted):
    table = planted.label_table
    none = replace(
        table,
        names=[],
        n_docs_train=table.n_docs_train[:0],
        n_docs_held_out=table.n_docs_held_out[:0],
        auroc_train=table.auroc_train[:, :0],
        auroc_held_out=table.auroc_held_out[:, :0],
        q_train=table.q_train[:, :0],
    )
    with pytest.raises(ConfigError, match="needs labels"):
        name_latents(replace(planted, label_table=none), namer="labels")


def test_a_persons_rows_are_names_and_rows_of_others_are_not(planted, number, tmp_path):
    path = tmp_path / "names.csv"
    path.write_text(
        "latent,name,namer,unit,words,confidence\n"
        f'{number("token")},writing tools,manual,word,"[""pen""]",0.7\n'
        f"{number('bigram')},a city,,,,\n"
        f"{number('topic')},left alone,top_tokens,,,0.9\n"
        f"{number('dead')},never fires,manual,,,\n"
    )
    names = name_latents(planted, namer="manual", path=str(path))
    assert {name.latent: name.name for name in names} == {
        number("token"): "writing tools",
        number("bigram"): "a city",
    }
    token = names.get(number("token"))
    assert (token.namer, token.confidence) == ("manual", 0.7)
    assert token.held_out_precision == pytest.approx(1.0), "a person's claim is scored too"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", FormatError, "columns latent, name"),
        ("latent,name\n99,far\n", FormatError, r"names latent 99, and the index has .* 0 to \d+;"),
        ("latent,name,namer\n1,x,labels\n", FormatError, "1 names, none of a person"),
        (None, FormatError, "no table of names"),
    ],
)
def test_a_wrong_file_is_said(planted, tmp_path, text, error, message):
    path = tmp_path / "n.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=message):
        name_latents(planted, namer="manual", path=str(path))


def test_a_file_must_be_named(planted):
    with pytest.raises(ConfigError, match=r"naming\.path"):
        name_latents(planted, namer="manual")


def test_the_first_that_is_sure_is_heard_and_stays_known(planted, number):
    names = name_latents(planted, namer="first_of", namers=["labels", "top_tokens"])
    assert (names.get(number("topic")).name, names.get(number("topic")).namer) == (
        "in turtle",
        "labels",
    )
    assert (names.get(number("token")).name, names.get(number("token")).namer) == (
        '"pen"',
        "top_tokens",
    )
    swapped = name_latents(planted, namer="first_of", namers=["top_tokens", "labels"])
    assert swapped.get(number("topic")).namer == "top_tokens"
    noise = names.get(number("noise"))
    assert noise.name.startswith("unclear"), "nobody is sure, and the first that speaks is heard"


def test_a_namer_is_not_asked_for_latents_that_have_a_name(planted, number, monkeypatch):
    asked = []

    class Watched:
        Config = NamerConfig

        @staticmethod
        def name(context, latents, config):
            asked.extend(latents)
            return [Name(j, "it", 0.5, "says so", "?") for j in latents]

    monkeypatch.setitem(NAMERS._table, "watched", Watched)
    names = name_latents(planted, namer="first_of", namers=["labels", "watched"])
    assert number("topic") not in asked
    assert names.get(number("token")).namer == "watched"


def test_settings_reach_their_namer(planted, number):
    ask = {"namer": "first_of", "namers": ["labels", "top_tokens"]}
    names = name_latents(planted, **ask, settings={"labels": {"max_q": 1e-300}})
    assert names.get(number("topic")).namer == "top_tokens"
    with pytest.raises(ConfigError, match="max_p"):
        name_latents(planted, **ask, settings={"labels": {"max_p": 1}})
    with pytest.raises(ConfigError, match="settings are given for llm"):
        name_latents(planted, **ask, settings={"llm": {}})
    with pytest.raises(ConfigError, match="not itself"):
        name_latents(planted, namer="first_of", namers=["first_of"])
