"""The page as a reader uses it: typing, clicking, keys alone, a phone, the dark; nothing breaks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saetools.analysis import LatentIndex
from saetools.explore import explore
from saetools.naming import NamesTable
from saetools.naming.base import Name
from saetools.sae import build_sae

IndexMaker = Callable[..., LatentIndex]
PageOpener = Callable[..., Any]

ATTACK = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
N = 300
PHONE = (390, 844)


@pytest.fixture(scope="module")
def page_path(
    make_rich_index: IndexMaker, names: NamesTable, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A page with families, scores, a map and texts."""
    score = np.full(N, np.nan, dtype=np.float32)
    score[:10] = np.linspace(1, 0.1, 10)
    page = explore(
        make_rich_index(N),
        names=names,
        scores={"fuzzing accuracy": score},
        sae=build_sae("topk", d_in=16, n_latents=N, k=4),
        map="pca",
        title="By hand",
        out=tmp_path_factory.mktemp("hand") / "page.html",
    )
    assert page.path is not None
    return page.path


def rows(page: Any) -> list[int]:
    """Latents of the rows in sight."""
    return [int(row.get_attribute("data-latent")) for row in page.locator(".row").all()]


def count(page: Any) -> str:
    return str(page.locator("#count").inner_text())


def wait_for_count(page: Any, text: str) -> None:
    page.wait_for_function(
        "(text) => document.querySelector('#saetools > div').shadowRoot"
        ".getElementById('count').textContent === text",
        arg=text,
    )


def test_typing_searches_and_escape_shows_all_again(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path)
    page.locator("#q").fill("planted77")
    wait_for_count(page, "1 of 300 latents")
    assert rows(page) == [77]
    page.keyboard.press("Escape")
    wait_for_count(page, "288 of 300 latents")


def test_latents_that_are_named_so_come_before_those_that_have_it_in_a_context(
    page_path: Path, open_page: PageOpener
) -> None:
    page = open_page(page_path, hash="#latent=200")
    page.locator("#q").fill("filler3")
    page.wait_for_timeout(300)
    assert rows(page)[0] != 200, "other latents fire more often, and have the word in a context"
    page.locator("#edit-name").click()
    page.locator("#name-input").fill("filler3 and the like")
    page.keyboard.press("Enter")
    page.locator("#q").fill("filler")
    page.locator("#q").fill("filler3")
    page.wait_for_timeout(300)
    assert rows(page)[0] == 200


def test_filters_leave_what_fits(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path)
    page.locator("#filters > summary").click()
    page.locator("#scoreMin").fill("0.55")
    wait_for_count(page, "5 of 300 latents")
    page.locator("#named-filter").select_option("yes")
    wait_for_count(page, "2 of 300 latents")
    assert page.locator("#n-filters").inner_text() == "2"
    page.locator("#clear-filters").click()
    wait_for_count(page, "288 of 300 latents")
    page.locator("#level-filter").select_option("1")
    wait_for_count(page, "144 of 300 latents")
    page.locator("#rateMin").fill("0.00002")
    wait_for_count(
        page,
        f"{sum(1 + 5000 // (1 + i) >= 20 for i in range(150, 300) if i % 25 != 24)} of 300 latents",
    )


def test_a_heading_sorts_by_score_and_latents_without_one_come_last(
    page_path: Path, open_page: PageOpener
) -> None:
    page = open_page(page_path, hash="#sort=rate&order=up")
    page.get_by_role("columnheader", name="Accuracy").get_by_role("button").click()
    assert rows(page)[:12] == [*range(10), 10, 11]
    page.get_by_role("columnheader", name="Accuracy").get_by_role("button").click()
    assert rows(page)[:12] == [*range(9, -1, -1), 10, 11]


def test_a_latent_shows_its_family_and_what_it_makes_likelier(
    page_path: Path, open_page: PageOpener
) -> None:
    page = open_page(page_path, hash="#latent=4")
    assert page.locator(".relation-children [data-open]").first.inner_text().startswith("5")
    assert "75" in page.locator(".relation-children .number").first.inner_text()
    assert "likely4" in page.locator(".logits").inner_text()
    page.locator(".relation-children [data-open='5']").click()
    assert "Latent 5" in page.locator("#detail .eyebrow").inner_text()
    assert page.locator(".relation-parents [data-open='4']").count() == 1
    assert "latent=5" in page.url


def test_a_name_is_edited_kept_by_the_browser_and_exported(
    page_path: Path, open_page: PageOpener, tmp_path: Path
) -> None:
    page = open_page(page_path, hash="#latent=7")
    page.locator("#edit-name").click()
    page.locator("#name-input").fill('commas, "quotes" & <b>tags</b>')
    page.keyboard.press("Enter")
    assert page.locator("#detail-title").inner_text() == 'commas, "quotes" & <b>tags</b>'
    assert "named by you" in page.locator(".name-head").inner_text()
    page.locator("#q").fill("quotes")
    wait_for_count(page, "1 of 300 latents")
    assert rows(page) == [7]
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#export").inner_text() == "Export 1 name"
    with page.expect_download() as download:
        page.locator("#export").click()
    download.value.save_as(tmp_path / "names.csv")
    (name,) = NamesTable.load(tmp_path / "names.csv")
    assert name == Name(7, 'commas, "quotes" & <b>tags</b>', 1.0, "", "manual", **{
        key: getattr(name, key) for key in ("held_out_precision", "swapped_precision")
    })  # fmt: skip


def test_escape_leaves_a_name_as_it_was(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path, hash="#latent=0")
    page.locator("#edit-name").click()
    page.locator("#name-input").fill("not this")
    page.keyboard.press("Escape")
    assert page.locator("#detail-title").inner_text() == "the first planted word"
    assert page.locator("#export").is_hidden()


def dot(page: Any) -> tuple[float, float]:
    """Where on the screen the map has a dot with a colour; what a filter leaves out is grey."""
    page.wait_for_timeout(200)
    canvas = page.locator("#panel-map canvas")
    x, y = canvas.evaluate(
        """(canvas) => {
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          for (let i = 0; i < data.length; i += 4) {
            const [r, g, b, a] = data.subarray(i, i + 4);
            const coloured = Math.max(r, g, b) - Math.min(r, g, b) > 60;
            const at = [(i / 4) % width, Math.floor(i / 4 / width)];
            if (a > 150 && coloured) return at.map((v) => v * canvas.clientWidth / width);
          }
          return [-1, -1];
        }"""
    )
    assert x >= 0, "no dot on the map has a colour"
    box = canvas.bounding_box()
    return box["x"] + x, box["y"] + y


def test_the_map_tells_names_and_opens_latents(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path, hash="#tab=map&q=%230")
    wait_for_count(page, "1 of 300 latents")  # the others are ground, and not pointed at
    x, y = dot(page)
    page.mouse.move(x, y)
    assert "the first planted word" in page.locator(".tooltip").inner_text()
    page.mouse.click(x, y)
    assert page.locator("#detail-title").inner_text() == "the first planted word"


def test_the_map_is_walked_with_arrow_keys(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path, hash="#tab=map")
    page.locator("#panel-map canvas").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator(".map-reading").inner_text()
    page.keyboard.press("ArrowLeft")
    second = page.locator(".map-reading").inner_text()
    assert first
    assert second
    assert first != second
    page.keyboard.press("Enter")
    assert page.locator("#detail .eyebrow").inner_text() == f"Latent {second.split()[0]}"


def test_a_group_of_the_legend_filters(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path, hash="#tab=map")
    page.locator("#map-colour").select_option("level")
    page.locator(".map-legend button").nth(1).click()
    wait_for_count(page, "144 of 300 latents")
    assert page.locator(".map-legend button").nth(1).get_attribute("aria-pressed") == "true"


def test_latents_that_fire_together_are_a_cluster(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path, hash="#latent=3")
    page.locator(".cluster").click()
    wait_for_count(page, "3 of 300 latents")
    page.locator("#tab-table").click()
    assert sorted(rows(page)) == [3, 4, 5]


def test_prompts_show_the_latents_of_each_token(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path, hash="#tab=prompts")
    assert "cannot run the model" in page.locator("#panel-prompts").inner_text()
    title = page.locator("#prompt-choice option:checked").inner_text()
    doc = int(title.split()[1])
    token = page.locator(f".ptok:has-text('planted{doc}')")
    token.click()
    wanted = [i for i in (doc, doc + 40) if i % 25 != 24]
    found = page.locator(".prompt-latents [data-open]").all()
    assert [int(button.get_attribute("data-open")) for button in found] == wanted
    found[0].click()
    assert page.locator("#detail .eyebrow").inner_text() == f"Latent {wanted[0]}"
    assert "--heat" in (token.get_attribute("style") or "")


def test_prompts_are_read_with_arrow_keys(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path, hash="#tab=prompts")
    page.locator(".reading").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert "planted" in page.locator(".ptok[aria-selected=true]").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".ptok[aria-selected=true]").count() == 0


def test_keys_alone_reach_everything(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path)
    page.keyboard.press("/")
    page.keyboard.type("planted12")
    wait_for_count(page, "10 of 300 latents")  # 12, and 120 to 129 but for the dead 124
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    focused = "document.querySelector('#saetools > div').shadowRoot.activeElement?.id"
    assert page.evaluate(focused) == "detail-title"
    latent = int(page.locator("#detail .eyebrow").inner_text().split()[1])
    page.keyboard.press("e")
    page.keyboard.type("named with keys")
    page.keyboard.press("Enter")
    assert page.locator("#detail-title").inner_text() == "named with keys"
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "grid"
    assert f'data-latent="{latent}"' in page.locator(".row[aria-selected=true]").evaluate(
        "e => e.outerHTML"
    )
    page.locator("#tab-table").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-map").is_visible()
    assert page.evaluate(focused) == "tab-map"


def test_a_phone_has_no_sideways_scrolling_and_the_sheet_closes(
    page_path: Path, open_page: PageOpener
) -> None:
    page = open_page(page_path, size=PHONE, has_touch=True)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == PHONE[0]
    page.locator(".row").first.tap()
    page.get_by_role("button", name="Back to the list").tap()
    assert page.locator(".sheet-open").count() == 0
    for tab in ("map", "prompts"):
        page.locator(f"#tab-{tab}").tap()
        assert page.evaluate(wide) == PHONE[0]
        assert page.locator(f"#panel-{tab}").bounding_box()["height"] > 300


def test_dark_is_dark_and_the_button_turns_it_round(page_path: Path, open_page: PageOpener) -> None:
    page = open_page(page_path, color_scheme="dark")
    wrap = page.locator(".saetools.page")
    ground = "node => getComputedStyle(node).backgroundColor"
    assert wrap.evaluate(ground) == "rgb(15, 18, 21)"
    assert page.evaluate("document.documentElement.style.background") == "rgb(15, 18, 21)"
    page.locator("#theme").click()
    assert wrap.evaluate(ground) == "rgb(251, 251, 250)"


def test_markup_stays_text_wherever_it_is_shown(
    make_rich_index: IndexMaker, open_page: PageOpener, tmp_path: Path
) -> None:
    index = make_rich_index(30, extra=ATTACK)
    index.token_texts[0] = ATTACK  # the first token of every document
    index.docs.title[:] = [ATTACK] * len(index.docs.title)
    index.logits.tokens[:] = [ATTACK] * 30  # type: ignore[union-attr]
    names = NamesTable([Name(i, ATTACK, 0.5, ATTACK, ATTACK) for i in range(24)])
    explore(
        index,
        names=names,
        scores={ATTACK: np.ones(30)},
        sae=build_sae("topk", d_in=16, n_latents=30, k=4),
        title=f"</title>{ATTACK}",
        summary=ATTACK,
        out=tmp_path / "page.html",
    )
    page = open_page(tmp_path / "page.html", hash="#latent=0")
    page.locator("#edit-name").click()
    page.locator("#name-input").fill(f"{ATTACK} again")
    page.keyboard.press("Enter")
    for tab in ("map", "prompts", "table"):
        page.locator(f"#tab-{tab}").click()
    page.locator("#tab-map").click()
    page.mouse.move(*dot(page))
    made = page.evaluate(
        "(() => { const root = document.querySelector('#saetools > div').shadowRoot;"
        "return root.querySelectorAll('img, script, b').length })()"
    )
    assert made == 0
    assert "owned" not in page.title().replace(ATTACK, "")
    assert page.locator("#detail").inner_text().count("<img") >= 3
