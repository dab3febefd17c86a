"""What answers a widget: names go to the table and the file, models are asked within limits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from saetools.analysis import LatentIndex
from saetools.errors import ConfigError
from saetools.explore.live import Live
from saetools.explore.steering import Steerer
from saetools.intervene import steer
from saetools.models import LanguageModel
from saetools.models.base import SubjectModel
from saetools.naming import NamesTable
from saetools.naming.base import Name
from saetools.sae import SAE

IndexMaker = Callable[..., LatentIndex]


Indexed = tuple[LatentIndex, SAE, SubjectModel]


@pytest.fixture
def lm_live(indexed_lm: Indexed) -> Live:
    """A language model with an SAE of it."""
    index, sae, model = indexed_lm
    return Live(index, sae=sae, model=model)


def test_without_a_model_only_names_are_taken(make_index: IndexMaker) -> None:
    live = Live(make_index(5))
    assert live.abilities == ["name"]
    answer = live.answer({"kind": "prompt", "id": "1", "text": "a"})
    assert answer == {
        "kind": "answer", "id": "1", "ok": False,
        "error": "asked for 'prompt'; this explorer can name",
    }  # fmt: skip


def test_a_name_goes_to_the_table_and_the_file_as_manual(
    make_index: IndexMaker, names: NamesTable, tmp_path: Path
) -> None:
    path = names.save(tmp_path / "names.csv")
    live = Live(make_index(5), names=names, names_path=path)
    answer = live.answer({"kind": "name", "id": "x", "latent": 3, "name": "  my \n own name "})
    assert answer["ok"]
    assert str(path) in answer["result"]
    found = NamesTable.load(path)
    assert found == live.names
    assert (found.get(3).name, found.get(3).namer) == ("my own name", "manual")  # type: ignore[union-attr]
    assert [name.latent for name in found] == [0, 1, 3]
    assert live.edits == {"3": "my own name"}


def test_an_edit_keeps_what_another_wrote_to_the_file_meanwhile(
    make_index: IndexMaker, tmp_path: Path
) -> None:
    path = tmp_path / "names.csv"
    live = Live(make_index(5), names_path=path)
    NamesTable([Name(1, "by another", 1.0, "", "manual")]).save(path)
    live.rename(2, "mine")
    assert [name.name for name in NamesTable.load(path)] == ["by another", "mine"]


def test_an_empty_name_takes_the_name_away(make_index: IndexMaker, names: NamesTable) -> None:
    live = Live(make_index(5), names=names)
    live.rename(0, "")
    assert live.names.get(0) is None
    assert live.names.get(1) is not None


def test_a_latent_that_does_not_exist_gets_no_name(make_index: IndexMaker) -> None:
    answer = Live(make_index(5)).answer({"kind": "name", "id": "1", "latent": 5, "name": "x"})
    assert not answer["ok"]
    assert "the latents 0 to 4" in answer["error"]


def test_a_prompt_is_read_as_the_index_reads_it(lm_live: Live, tiny_lm: LanguageModel) -> None:
    answer = lm_live.answer({"kind": "prompt", "id": "1", "text": "the sea"})
    assert answer["ok"], answer
    reading = lm_live.index.fires_on(tiny_lm, lm_live._sae, "the sea")  # type: ignore[arg-type]
    assert answer["result"]["tokens"] == reading.tokens
    assert answer["result"]["latents"] == [[i for i, _ in here] for here in reading.latents]
    assert all(len(acts) <= 4 for acts in answer["result"]["acts"])


def test_steering_gives_what_steer_gives(lm_live: Live, tiny_lm: LanguageModel) -> None:
    latent = int(lm_live.index.live[0])
    message = {"kind": "steer", "id": "1", "latent": latent, "strength": 4.0, "text": "the sea"}
    answer = lm_live.answer(message)
    assert answer["ok"], answer
    result = answer["result"]
    room = tiny_lm.ctx_len - tiny_lm.tokenize(["the sea"]).ids.shape[1]
    n = min(40, room)
    assert result["plain"] == tiny_lm.generate("the sea", n)
    sae, index = lm_live._sae, lm_live.index
    assert sae is not None
    with steer(tiny_lm, sae, {latent: 4.0}, unit="max_activation", max_activations=index.max_act):
        assert result["steered"] == tiny_lm.generate("the sea", n)
    assert tiny_lm.generate("the sea", n) == result["plain"]  # nothing remains


def test_an_encoder_shows_the_texts_that_come_nearer(indexed_encoder: Indexed) -> None:
    index, sae, model = indexed_encoder
    live = Live(index, sae=sae, model=model)
    latent = int(index.live[0])
    message = {"kind": "steer", "id": "1", "latent": latent, "text": "the sea"}
    nothing = live.answer({**message, "strength": 0.0})["result"]
    assert nothing["plain"] == nothing["steered"]
    much = live.answer({**message, "strength": 50.0})["result"]
    assert much["plain"] == nothing["plain"]
    assert [row["cosine"] for row in much["steered"]] != [row["cosine"] for row in much["plain"]]


def test_a_slow_model_is_given_up_and_left_as_it_was(lm_live: Live, tiny_lm: LanguageModel) -> None:
    sae = lm_live._sae
    assert sae is not None
    steerer = Steerer(lm_live.index, tiny_lm, sae, seconds=-1.0)
    before = tiny_lm.generate("the sea", 3)
    with pytest.raises(ConfigError, match="was stopped after"):
        steerer.steer(int(lm_live.index.live[0]), 2.0, "the sea")
    assert tiny_lm.generate("the sea", 3) == before


def test_whatever_a_model_raises_is_an_answer(lm_live: Live) -> None:
    class Broken:
        kind, ctx_len = "language_model", 8

        def __getattr__(self, name: str) -> object:
            raise RuntimeError("out of memory")

    live = Live(lm_live.index, sae=lm_live._sae, model=Broken())  # type: ignore[arg-type]
    answer = live.answer({"kind": "prompt", "id": "7", "text": "a"})
    assert (answer["id"], answer["ok"]) == ("7", False)
    assert answer["error"] == "RuntimeError: out of memory"


@pytest.mark.parametrize("text", ["", "   \n"])
def test_an_empty_text_is_refused_in_words(lm_live: Live, text: str) -> None:
    latent = int(lm_live.index.live[0])
    asked = {"id": "1", "text": text, "latent": latent, "strength": 1}
    for kind in ("prompt", "steer"):
        answer = lm_live.answer({"kind": kind, **asked})
        assert not answer["ok"]
        assert "text" in answer["error"]
