"""The module in a page that mimics anywidget's host, two at once, Python at the other end."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from saetools.analysis import LatentIndex
from saetools.explore import explore
from saetools.explore.esm import explorer_esm
from saetools.explore.live import Live
from saetools.models.base import SubjectModel
from saetools.naming import NamesTable
from saetools.sae import SAE

Indexed = tuple[LatentIndex, SAE, SubjectModel]

# A notebook page: two outputs, a button of the host, a model as anywidget gives one.
HOST = """<!doctype html><meta charset="utf-8"><style>button { color: rgb(1, 2, 3) }</style>
<body data-jp-theme-light="false"><button id="own">Run</button>
<div id="one" style="width: 1200px"></div><div id="two" style="width: 700px"></div>
<script>
  class Model {
    constructor(name, values) { Object.assign(this, { name, values, listeners: [], changed: [] }); }
    get(key) { return this.values[key]; }
    set(key, value) { this.values[key] = value; this.changed.push(key); }
    save_changes() { window.saved(this.name, this.changed.splice(0), this.values.selected); }
    on(event, callback) { this.listeners.push([event, callback]); }
    off(event, callback) {
      this.listeners = this.listeners.filter(([e, c]) => e !== event || c !== callback);
    }
    fire(event, ...args) { for (const [e, c] of [...this.listeners]) if (e === event) c(...args); }
    async send(content) { this.fire("msg:custom", await window.toPython(this.name, content), []); }
    fromPython(key, value) { this.values[key] = value; this.fire(`change:${key}`); }
  }
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  window.models = {};
  window.ends = {};
  window.mount = async (name, esm, values) => {
    const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
    const widget = (await import(url)).default;
    const [head, body] = [bytes(values.head), bytes(values.body)];
    const model = new Model(name, { ...values, head, body });
    window.models[name] = model;
    window.ends[name] = await widget.render({ model, el: document.getElementById(name) });
  };
</script></body>"""


class Host(NamedTuple):
    """The notebook page, the Python ends of its widgets, and what the front ends saved."""

    page: Any
    lives: dict[str, Live]
    saved: list[tuple[str, list[str], Any]]


@pytest.fixture
def host(
    browser: Any, indexed_lm: Indexed, indexed_encoder: Indexed, tmp_path: Path
) -> Iterator[Host]:
    """A language model's widget and an encoder's, on one page."""
    problems: list[str] = []
    saved: list[tuple[str, list[str], Any]] = []
    lives: dict[str, Live] = {}
    page = browser.new_page(viewport={"width": 1400, "height": 1600})
    page.set_default_timeout(8_000)
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.expose_function("toPython", lambda name, content: lives[name].answer(content))
    page.expose_function("saved", lambda *what: saved.append(what))
    page.set_content(HOST)
    for name, (index, sae, model) in {"one": indexed_lm, "two": indexed_encoder}.items():
        path = tmp_path / f"{name}.csv"
        made = explore(index, sae=sae, model=model, map="pca", save_names=path)
        assert made.bundle is not None
        assert made.live is not None
        lives[name] = made.live
        head, body = (base64.b64encode(part).decode() for part in made.bundle.encoded())
        values = {
            "head": head, "body": body, "can": made.live.abilities, "edits": {}, "height": 600,
            "selected": None, "steer_text": made.live.steer_text,
        }  # fmt: skip
        page.evaluate("(args) => window.mount(...args)", [name, explorer_esm(), values])
    yield Host(page, lives, saved)
    page.close()
    assert problems == []


def count(host: Host, name: str) -> str:
    return str(host.page.locator(f"#{name} #count").inner_text())


def test_two_widgets_do_not_disturb_each_other_nor_the_notebook(host: Host) -> None:
    page, before = host.page, count(host, "two")
    page.locator("#one .row").nth(2).click()
    page.locator("#one #tab-map").click()
    page.locator("#one #tab-table").click()
    assert page.locator("#two #panel-table").is_visible()
    page.locator("#one #grid").focus()
    page.keyboard.press("/")
    page.keyboard.type("cats")
    page.wait_for_timeout(300)
    assert count(host, "one") != count(host, "two") == before
    assert page.locator("#two #q").input_value() == ""
    assert [name for name, _, _ in host.saved] == ["one"]
    assert page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)") == [
        "own", "one", "two",
    ]  # fmt: skip
    assert page.locator("#own").evaluate("e => getComputedStyle(e).color") == "rgb(1, 2, 3)"
    ink = page.locator("#one #filters summary").evaluate("e => getComputedStyle(e).color")
    assert ink != "rgb(1, 2, 3)"


def test_each_takes_the_width_of_its_own_cell_and_the_notebooks_theme(host: Host) -> None:
    wrap = host.page.locator(".saetools")
    assert "w-980" not in wrap.nth(0).get_attribute("class")
    assert "w-980" in wrap.nth(1).get_attribute("class")
    assert wrap.nth(0).get_attribute("data-theme") == "dark"
    host.page.evaluate("document.body.dataset.jpThemeLight = 'true'")
    host.page.wait_for_selector("#one .saetools[data-theme=light]")


def test_a_sheet_covers_its_own_widget_alone(host: Host) -> None:
    page = host.page
    page.locator("#two .row").first.click()
    page.wait_for_timeout(400)  # it glides in
    sheet = page.locator("#two #detail").bounding_box()
    cell = page.locator("#two").bounding_box()
    assert cell["y"] <= sheet["y"] + 1
    assert sheet["y"] + sheet["height"] <= cell["y"] + cell["height"] + 1
    assert page.locator("#one .sheet-open").count() == 0


def test_python_hears_of_the_chosen_latent_and_may_choose(host: Host) -> None:
    page = host.page
    row = page.locator("#one .row").nth(3)
    latent = int(row.get_attribute("data-latent"))
    row.click()
    assert host.saved == [("one", ["selected"], latent)]
    other = int(page.locator("#one .row").nth(5).get_attribute("data-latent"))
    page.evaluate("(n) => window.models.one.fromPython('selected', n)", other)
    assert page.locator("#one #detail .eyebrow").inner_text() == f"Latent {other}"


def test_a_name_is_written_by_python(host: Host) -> None:
    page = host.page
    page.locator("#one .row").first.click()
    latent = int(page.locator("#one #detail .eyebrow").inner_text().split()[1])
    page.locator("#one #edit-name").click()
    page.locator("#one #name-input").fill("named in a notebook")
    page.keyboard.press("Enter")
    page.wait_for_selector("#one .edited")
    assert "Saved to" in page.locator("#one .name-head .status").inner_text()
    path = host.lives["one"].names_path
    assert path is not None
    assert [(name.latent, name.namer) for name in NamesTable.load(path)] == [(latent, "manual")]
    assert page.locator("#one .row .name").first.inner_text() == "named in a notebook"
    assert host.lives["two"].edits == {}


def test_any_text_is_read_token_by_token(host: Host) -> None:
    page = host.page
    page.locator("#one #tab-prompts").click()
    page.locator("#one #prompt-text").fill("the sea of birds")
    page.get_by_role("button", name="Read").click()
    page.wait_for_selector("#one .ptok")
    index, live = host.lives["one"].index, host.lives["one"]
    assert live._model is not None
    assert live._sae is not None
    reading = index.fires_on(live._model, live._sae, "the sea of birds")
    assert page.locator("#one .ptok").count() == len(reading.tokens)
    page.locator("#one .ptok").nth(1).click()
    shown = page.locator("#one .prompt-latents [data-open]").all()
    assert {int(b.get_attribute("data-open")) for b in shown} == {
        latent for latent, _ in reading.latents[1]
    }


def test_steering_shows_both_texts_and_errors_where_they_arise(host: Host) -> None:
    page = host.page
    page.locator("#one .row").first.click()
    page.locator("#one .steer-text").fill("the sea")
    page.locator("#one .steer-strength").fill("6")
    page.locator("#one #steering button[type=submit]").click()
    page.wait_for_selector("#one .steer-out p")
    plain = page.locator("#one .steer-out p").nth(1).inner_text()
    live = host.lives["one"]
    latent = int(page.locator("#one #detail .eyebrow").inner_text().split()[1])
    answer = live.answer(
        {"kind": "steer", "id": "", "latent": latent, "strength": 6, "text": "the sea"}
    )
    assert plain.split() == answer["result"]["plain"].split()
    page.locator("#one .steer-text").fill(" ")
    page.locator("#one #steering button[type=submit]").click()
    page.wait_for_selector("#one #steering .status.bad")
    assert "no text to steer" in page.locator("#one #steering .status").inner_text()
    page.locator("#two .row").first.click()
    page.locator("#two .steer-text").fill("the town of cats")
    page.locator("#two #steering button[type=submit]").click()
    page.wait_for_selector("#two .steer-out li")
    assert page.locator("#two .steer-out li").count() >= 2


def test_a_widget_that_is_taken_away_leaves_nothing(host: Host) -> None:
    page = host.page
    page.evaluate("window.ends.one()")
    assert page.locator("#one > *").count() == 0
    assert page.evaluate("window.models.one.listeners.length") == 0
    page.locator("#two .row").first.click()
    assert page.locator("#two #detail-title").is_visible()
