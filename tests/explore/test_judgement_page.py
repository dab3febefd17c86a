"""The page of a judgement: its numbers are the JSON's, texts stay texts, nothing is loaded."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saetools.errors import FormatError
from saetools.evaluate.base import Curve
from saetools.evaluate.unlearning import UnlearningReport, UnlearningRow
from saetools.explore import show_judgement
from saetools.unlearn import Judgement, VerdictRules, give_verdict
from saetools.unlearn.checks import make_checks
from saetools.unlearn.examples import Example
from saetools.unlearn.judge import LatentChange
from saetools.unlearn.untested import untested

PageOpener = Callable[..., Any]

ATTACK = (
    "<img src=x onerror=document.title='owned'></script><script>document.title='owned'</script>"
)
LONG = "supercalifragilistic" * 60
HOOK = "blocks.1.hook_resid_post"


def figures(**changed: float | None) -> UnlearningReport:
    """A report of an edit that removed, with an oracle; None leaves a figure out."""
    edited = {
        "efficacy": 0.9713,
        "form_gap": 0.1532,
        "neighbours_kept": 0.9421,
        "utility": 0.9637,
        "residue": 0.0312,
        "relearn_resistance": 0.9127,
        **changed,
    }
    rows = [
        UnlearningRow(name, "edited", "", value, value - 0.0123, value + 0.0111, "higher", name)
        for name, value in edited.items()
        if value is not None
    ]
    rows += [
        UnlearningRow("accuracy", model, group, value, value - 0.02, value + 0.02, better, "right")
        for group, better, values in (
            ("forget", "lower", (0.9871, 0.1342, 0.1111)),
            ("neighbours", "higher", (0.9912, 0.9345, 0.9876)),
        )
        for model, value in zip(("original", "edited", "oracle-0"), values, strict=True)
    ]
    rows += [
        UnlearningRow(
            "forgetting", "edited", f"form {ATTACK}", 0.8321, 0.79, 0.87, "higher", "gone"
        ),
        UnlearningRow(
            "forgetting", "oracle-0", f"form {ATTACK}", 0.95, 0.9, 0.99, "higher", "gone"
        ),
        UnlearningRow("form_gap", "oracle-0", "", 0.1019, math.nan, math.nan, "lower", "gap"),
        UnlearningRow("ce", "original", "", 0.7613, 0.72, 0.79, "lower", "nats"),
        UnlearningRow("ce", "edited", "", 0.7984, 0.76, 0.83, "lower", "nats"),
        UnlearningRow(
            "relearning_steps", "edited", "", math.inf, math.nan, math.nan, "higher", "=x"
        ),
    ]
    curves = tuple(
        Curve(f"relearning {model}", "knowledge by step", (0.0, 10.0, 20.0), (0.0, 0.1, math.nan))
        for model in ("edited", "oracle-0")
    )
    about = {
        "oracle-0": "planted:oracle-0",
        "n_forget_questions": 149,
        "n_forget_entities": 10,
        "chance": 0.1064,
        "settings": {"seed": 0},
    }
    return UnlearningReport(tuple(rows), {"verbatim": "not asked for"}, curves, about)


def request(text: str = "Ada lives in Ulm.") -> dict[str, Any]:
    side = {
        "n_questions": 20,
        "n_texts": 0,
        "n_entities": 1,
        "entities": [f"Ada {ATTACK}"],
        "forms": {"reversed": 20},
        "samples": [text, LONG],
        "fingerprint": "0123456789abcdef",
    }
    return {
        "seed": 7,
        "max_perplexity_ratio": 1.5,
        "forget": side,
        "retain": {**side, "entities": ["Bob"]},
        "saes": [{"hook_name": HOOK, "n_latents": 512, "fingerprint": "feedfeedfeedfeed"}],
    }


def edit(*, latents: bool = True) -> dict[str, Any]:
    planned = {
        "hook_name": HOOK,
        "latent": 417,
        "forget_rate": 0.31,
        "retain_rate": 0.01,
        "ratio": 9.5,
        "direction": -1,
        "words": f"{ATTACK} blue",
    }
    return {
        "method": "crisp" if latents else "npo",
        "config": {"lr": 1e-3, "note": ATTACK},
        "plan": {
            "method": "crisp",
            "steps": [f"silence 1 latent {ATTACK}"],
            "weights": [],
            "latents": [planned] if latents else [],
            "thresholds": {"k": 300},
            "rejected": {"ratio below 2": 12, "none": 0},
            "facts": {},
        },
        "model": {
            "name": "planted",
            "fingerprint": "aaaabbbbccccdddd",
            "edited": "eeeeffff00001111",
        },
        "seconds": 12.5,
        "edit_norm": 5.9812,
        "changes": [
            {
                "name": f"model.layers.{i}.mlp.down_proj.weight",
                "norm": 0.5 + i,
                "relative": 0.0312 * (i + 1),
                "n_changed": 64,
            }
            for i in range(2)
        ],
        "losses": [
            {"total": 3.0, "forget": 2.0, "retain": 1.0},
            {"total": 2.0, "forget": 1.0, "retain": math.nan},
        ],
        "facts": {"n_adapter_weights": 512},
        "guard": {"before": 0.7, "after": 0.72, "n_texts": 20, "perplexity_ratio": 1.0202},
        "request": request(),
    }


def judgement(report: UnlearningReport | None = None, *, latents: bool = True) -> Judgement:
    report = report or figures()
    rules, done = VerdictRules(), edit(latents=latents)
    change = LatentChange(HOOK, 417, 1.2345, 0.0456, 0.0678, 0.0567, f"{ATTACK} blue")
    control = UnlearningReport(
        (UnlearningRow("accuracy", "edited", "forget", 0.9765, 0.95, 0.99, "lower", "right"),)
    )
    return Judgement(
        give_verdict(report, rules),
        rules,
        report,
        done,
        (change,) if latents else (),
        checks=make_checks(report, rules),
        examples=(
            Example(
                "forget",
                f"Ada {ATTACK}",
                "question",
                f"Where does Ada live? {ATTACK} {LONG}",
                " Ulm",
                0.125,
                {"original": " Ulm, of course", "edited": f" {ATTACK}", "oracle-0": ""},
                {"original": 0.9431, "edited": 0.1219, "oracle-0": 0.1301},
            ),
        ),
        untested=untested(report, done["request"]),
        controls={f"random {ATTACK}": control},
        made={"date": "2026-11-27T12:00:00+00:00", "python": "3.11", "packages": {"torch": "2.13"}},
    )


def numbers(value: Any) -> Iterator[float]:
    """All numbers in plain data."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


@pytest.fixture
def opened(tmp_path: Path, open_page: PageOpener) -> Callable[..., Any]:
    def open_(shown: Judgement, **how: Any) -> Any:
        path = show_judgement(shown, out=tmp_path / "report.html").path
        return open_page(path, **how)

    return open_


def test_every_number_on_the_page_is_one_of_the_json(tmp_path: Path, opened: Any) -> None:
    shown = judgement()
    page = opened(shown)
    known = {*numbers(json.loads(shown.save(tmp_path / "j.json").read_text()))}
    exact = page.eval_on_selector_all(
        "[data-value]", "all => all.map((one) => [one.dataset.value, one.textContent])"
    )
    assert len(exact) > 60
    for value, text in exact:
        assert float(value) in known, f"{value} is on the page and not in the JSON"
        assert float(text.replace("\N{MINUS SIGN}", "-").replace(",", "")) == pytest.approx(
            float(value), rel=6e-3, abs=6e-4
        )
    decided = {check.decides.value for check in shown.checks if check.decides}
    assert decided <= {float(value) for value, _ in exact}, "each figure that decides is shown"


def test_the_page_says_the_verdict_and_everything_that_led_to_it(opened: Any) -> None:
    shown = judgement()
    text = opened(shown).inner_text("main")
    assert shown.verdict.sentence in text
    for wanted in ("aaaabbbbccccdddd", "eeeeffff00001111", "crisp", "2026-11-27", "torch 2.13"):
        assert wanted in text
    for check in shown.checks:
        assert check.name in text
        assert check.asks in text
    assert text.count("✓ pass") == 6
    assert "417" in text
    assert "1.0202" not in text, "rounded"
    assert "1.02 times as perplexing as before, where 1.5 was allowed" in text
    assert "NaN" not in text
    assert "undefined" not in text


def test_the_page_names_what_was_not_tested(opened: Any) -> None:
    shown = judgement()
    text = opened(shown).inner_text("#untested")
    for one in shown.untested:
        assert one.what in text
        assert one.why in text
    assert "Quantisation" in text
    assert "Verbatim continuation of forget texts" in text
    assert "The forms reversed" in text, "a form that was fitted on and not asked"


def test_a_way_that_was_not_measured_is_a_row_that_says_so(opened: Any) -> None:
    text = opened(judgement(figures(residue=None))).inner_text("main")
    assert "? not measured" in text
    assert "Not measured, and so counted as not shown: read by fresh probes" in text


def test_what_failed_is_marked_with_its_limit(opened: Any) -> None:
    page = opened(judgement(figures(efficacy=0.4)))
    assert page.locator(".verdict.not-removed").count() == 1
    row = page.locator("tr.decides", has_text="Asked outright")
    assert "✗ fail" in row.inner_text()
    assert row.locator(".limit-label").text_content() == "≥ 0.9"


def test_the_mark_of_a_limit_stands_on_the_scale_of_the_bar(opened: Any) -> None:
    bar = opened(judgement()).locator("tr.decides", has_text="Asked outright").locator(".bullet")
    value = float(bar.locator(".value").get_attribute("cx"))
    limit = float(bar.locator(".limit").get_attribute("x1"))
    fill = bar.locator(".fill")
    zero, width = float(fill.get_attribute("x")), float(fill.get_attribute("width"))
    assert zero + width == pytest.approx(value)
    assert (limit - zero) / width == pytest.approx(0.9 / 0.9713)


def test_a_limit_within_the_interval_is_called_out(opened: Any) -> None:
    text = opened(judgement(figures(relearn_resistance=0.805))).inner_text("main")
    assert "reaches across it: taught a part again (passed)" in text


def test_hostile_texts_stay_texts(opened: Any) -> None:
    page = opened(judgement())
    assert page.title() == "planted, unlearned by crisp"
    assert page.locator("main img").count() == 0
    assert page.locator("main script").count() == 0
    assert page.inner_text("main").count(ATTACK) >= 6


def test_a_hostile_title_stays_a_title(tmp_path: Path, open_page: PageOpener) -> None:
    made = show_judgement(judgement(), title=ATTACK, out=tmp_path / "report.html")
    page = open_page(made.path)
    assert page.title() == ATTACK
    assert page.inner_text("h1") == ATTACK


def test_the_page_is_one_file_that_asks_nobody() -> None:
    html = show_judgement(judgement()).html
    assert "default-src 'none'" in html
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", html)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)


@pytest.mark.parametrize("size", [(1280, 900), (375, 800)])
def test_nothing_is_wider_than_the_screen(opened: Any, size: tuple[int, int]) -> None:
    page = opened(judgement(), size=size)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for spilled in page.query_selector_all(".verdict, .answer, .side, .skipped, .plain-list"):
        assert spilled.evaluate("node => node.scrollWidth <= node.clientWidth + 1")


def test_a_notice_that_sizes_settle_is_no_failure_and_an_error_is(opened: Any) -> None:
    page = opened(judgement())
    tell = "message => dispatchEvent(new ErrorEvent('error', {message}))"
    page.evaluate(tell, "ResizeObserver loop completed with undelivered notifications.")
    assert page.locator("#failure").is_hidden()
    page.evaluate(tell, "it broke")
    assert page.locator("#failure").is_visible()


def test_layers_have_no_ticks_between_them(opened: Any) -> None:
    curve = Curve("probe mlp edited", "accuracy by layer", (0.0, 1.0, 2.0), (0.1, 0.2, 0.3))
    page = opened(judgement(replace(figures(), curves=(curve,))))
    plot = page.locator("figure", has_text="An MLP probe, by layer")
    below = plot.locator("text.tick[text-anchor=middle]").all_text_contents()
    assert below == ["0", "1", "2"]


def test_nothing_is_cut_off_on_paper(opened: Any) -> None:
    page = opened(judgement())
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.locator(".bar").is_hidden()


def test_a_method_without_saes_and_without_anything_else_is_shown(opened: Any) -> None:
    bare = Judgement(give_verdict(UnlearningReport(())), VerdictRules(), UnlearningReport(()), {
        **edit(latents=False), "losses": [], "guard": None, "request": {}, "changes": [],
    }, (), checks=make_checks(UnlearningReport(()), VerdictRules()))  # fmt: skip
    page = opened(bare)
    assert page.get_attribute("html", "data-error") is None
    text = page.inner_text("main")
    assert "acted on" not in text
    assert "What was asked" not in text
    assert "Before and after" not in text
    assert "undefined" not in text


def test_the_figures_can_be_taken_away(tmp_path: Path, opened: Any) -> None:
    shown = judgement()
    page = opened(shown)
    with page.expect_download() as got:
        page.click("text=all as JSON")
    taken = json.loads(Path(got.value.path()).read_text())
    assert taken == json.loads(shown.save(tmp_path / "j.json").read_text())
    with page.expect_download() as got:
        page.click("text=table as CSV")
    rows = [*csv.DictReader(io.StringIO(Path(got.value.path()).read_text()))]
    assert len(rows) == len(shown.evaluation.rows) + 1
    (first,) = (row for row in rows if (row["name"], row["model"]) == ("efficacy", "edited"))
    assert [float(first[name]) for name in ("value", "low", "high")] == [
        0.9713,
        0.9713 - 0.0123,
        0.9713 + 0.0111,
    ]
    assert not [row for row in rows if row["meaning"].startswith("=")], "no cell is a formula"


def test_paper_is_light_and_everything_is_open(opened: Any) -> None:
    page = opened(judgement(), color_scheme="dark")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.get_attribute("html", "data-theme") == "light"
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.get_attribute("html", "data-theme") == "dark"
    assert page.locator("details[open]").count() == 0


def test_the_page_is_the_same_from_the_file(tmp_path: Path) -> None:
    shown = judgement()
    path = shown.save(tmp_path / "judgement.json")
    assert show_judgement(path).html == show_judgement(shown).html


def test_a_judgement_that_lacks_a_part_is_refused_in_words() -> None:
    old = {**judgement().as_json()}
    del old["checks"]
    with pytest.raises(FormatError, match=r"lacks a part.*checks.*judge the edit again"):
        show_judgement(old)
