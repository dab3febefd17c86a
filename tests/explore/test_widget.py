"""The widget's Python side: what it sends, what it answers, and what happens without anywidget."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saetools.analysis import LatentIndex
from saetools.errors import ConfigError
from saetools.explore import explore
from saetools.explore.esm import explorer_esm
from saetools.models.base import SubjectModel
from saetools.naming import NamesTable
from saetools.sae import SAE

pytest.importorskip("anywidget", reason="needs anywidget (extra `notebook`)")

IndexMaker = Callable[..., LatentIndex]
Indexed = tuple[LatentIndex, SAE, SubjectModel]


def asked(widget: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Give the widget a message as the front end does, and return what it sends back."""
    sent: list[dict[str, Any]] = []
    widget.send = lambda message, buffers=None: sent.append(message)
    widget._handle_custom_msg(content, [])
    (message,) = sent
    return message


def test_a_notebook_is_shown_the_widget(make_index: IndexMaker) -> None:
    page = explore(make_index(30))
    shown = page._repr_mimebundle_()
    data = shown[0] if isinstance(shown, tuple) else shown
    assert "application/vnd.jupyter.widget-view+json" in data
    view = data["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == page.widget.model_id


def test_the_widget_carries_the_module_and_the_data_of_the_page(make_index: IndexMaker) -> None:
    page = explore(make_index(30))
    assert page.bundle is not None
    assert (page.widget.head, page.widget.body) == page.bundle.encoded()
    assert page.widget._esm == explorer_esm()
    assert explorer_esm() in page.html  # one module for both


def test_a_name_edited_in_the_widget_is_in_its_names_and_in_the_file(
    make_index: IndexMaker, names: NamesTable, tmp_path: Path
) -> None:
    widget = explore(make_index(30), names=names, save_names=tmp_path / "n.csv").widget
    answer = asked(widget, {"kind": "name", "id": "a-1", "latent": 4, "name": "mine"})
    assert (answer["kind"], answer["id"], answer["ok"]) == ("answer", "a-1", True)
    assert widget.edits == {"4": "mine"}
    assert widget.names.get(4).namer == "manual"
    assert NamesTable.load(tmp_path / "n.csv") == widget.names


def test_a_model_and_its_sae_make_prompts_and_steering_possible(
    indexed_lm: Indexed, make_index: IndexMaker
) -> None:
    index, sae, model = indexed_lm
    assert explore(make_index(30)).widget.can == ["name"]
    widget = explore(index, sae=sae, model=model, map=None).widget
    assert widget.can == ["name", "prompt", "steer"]
    answer = asked(widget, {"kind": "prompt", "id": "1", "text": "the sea"})
    assert len(answer["result"]["tokens"]) == len(answer["result"]["latents"]) > 0


def test_without_anywidget_the_page_is_shown_and_one_sentence_says_what_to_install(
    make_index: IndexMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saetools.explore.page.find_spec", lambda name: None)
    shown = explore(make_index(30))._repr_mimebundle_()["text/html"]
    assert "<iframe sandbox" in shown
    assert "saetools[notebook]" in shown.split("</iframe>")[1]


def test_the_module_of_the_widget_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "saetools.explore.widget", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(ConfigError, match=r"pip install saetools\[notebook\]"):
        importlib.import_module("saetools.explore.widget")
