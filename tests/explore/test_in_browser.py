"""The page as Chromium sees it: rows, search, deep links, no errors, no way in for markup."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from saetools.analysis import LatentIndex
from saetools.evaluate import ConceptAblationReport, EvaluationReport, Figure, ProbeRow
from saetools.explore import explore
from saetools.naming import NamesTable
from saetools.sae import build_sae

IndexMaker = Callable[..., LatentIndex]
PageReader = Callable[..., str]

ATTACK = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def full_page(
    make_index: IndexMaker, names: NamesTable, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A page with everything on it."""
    fvu = Figure("fvu", "fraction of variance unexplained", "lower", (0.0, 1.0))
    narrow = Figure("fvu_at_100", "fvu with the first 100 latents only", "lower", (0.0, 1.0))
    probes = [
        ProbeRow(condition, "final", "auroc", value, value - 0.02, value + 0.02)
        for condition, value in (("clean", 0.97), ("ablated", 0.61), ("control", 0.96))
    ]
    page = explore(
        make_index(300),
        names=names,
        sae=build_sae("topk", d_in=16, n_latents=300, k=4),
        map="pca",
        evaluation=EvaluationReport((fvu.measured(0.1873), narrow.measured(0.4))),
        training=[
            {"step": i, "n_tokens": 1000 * i, "loss": 2.0 / i, "fvu": 1.0 / i, "l0": 4.0}
            for i in range(1, 50)
        ],
        ablation=ConceptAblationReport("animals", "It is weaker.", tuple(probes), ()),
        title="Planted & proud",
        out=tmp_path_factory.mktemp("page") / "page.html",
    )
    assert page.path is not None
    return page.path


def rows_of(dom: str) -> list[int]:
    """Latents of the rows that are drawn, from top to bottom."""
    return [int(latent) for latent in re.findall(r'id="row-(\d+)"', dom)]


def text_of(dom: str) -> str:
    """What the document says, scripts and styles left out."""
    body = re.sub(r"<(script|style).*?</\1>", "", dom, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", body)))


def assert_no_errors(dom: str) -> None:
    assert 'data-error="' not in dom
    assert 'data-ready="' in dom


def test_all_sections_are_drawn_without_errors(full_page: Path, read_page: PageReader) -> None:
    dom = read_page(full_page)
    assert_no_errors(dom)
    text = text_of(dom)
    assert "Planted & proud" in text
    assert "0.1873" in text
    assert dom.count('class="chart-svg"') >= 4  # training, firing rates, widths, ablation
    assert "Ablating “animals”" in text
    assert "288 of 300 latents" in text  # 12 are dead
    assert "Words it fires on" in text
    assert "Nearest by decoder" in text


def test_rows_are_sorted_by_firing_rate_and_only_those_in_sight_exist(
    full_page: Path, read_page: PageReader
) -> None:
    rows = rows_of(read_page(full_page))
    assert rows[:5] == [0, 1, 2, 3, 4]
    assert 5 < len(rows) < 60


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("first%20planted", 0),  # a name
        ("%23123", 123),  # a number
        ("PLANTED77", 77),  # a token of a context
    ],
)
def test_search_in_the_address_filters(
    full_page: Path, read_page: PageReader, query: str, found: int
) -> None:
    dom = read_page(full_page, hash=f"#q={query}")
    assert_no_errors(dom)
    assert rows_of(dom) == [found]
    assert "1 of 300 latents" in text_of(dom)


def test_search_finds_text_that_spans_tokens(
    make_index: IndexMaker, read_page: PageReader, tmp_path: Path
) -> None:
    explore(make_index(30, extra="xyz"), out=tmp_path / "page.html")
    dom = read_page(tmp_path / "page.html", hash="#q=planted0xy")  # " planted0" + "xyz"
    assert rows_of(dom) == [0]


def test_search_without_a_hit_says_so(full_page: Path, read_page: PageReader) -> None:
    dom = read_page(full_page, hash="#q=nothing-like-this")
    assert_no_errors(dom)
    assert rows_of(dom) == []
    assert "No latent fits." in text_of(dom)


def test_a_deep_link_opens_its_latent(full_page: Path, read_page: PageReader) -> None:
    dom = read_page(full_page, hash="#latent=123")
    assert_no_errors(dom)
    detail = text_of(dom[dom.index('id="detail"') :])
    assert "Latent 123" in detail
    assert "planted123" in detail
    assert "fires on 1 token in 24,390" in detail  # 41 of a million
    assert "3.23" in detail  # its largest activation
    assert re.search(r'id="row-123"[^>]*aria-selected="true"', dom)


def test_a_link_to_a_latent_that_does_not_exist_is_harmless(
    full_page: Path, read_page: PageReader
) -> None:
    dom = read_page(full_page, hash="#latent=99999&sort=nonsense")
    assert_no_errors(dom)
    assert rows_of(dom)[0] == 0


def test_tokens_are_tinted_by_their_share_of_the_largest_activation(
    full_page: Path, read_page: PageReader
) -> None:
    dom = read_page(full_page, hash="#latent=123")
    detail = dom[dom.index('id="detail"') :]
    peaks = re.findall(r'class="tok peak"[^>]*--heat: ([\d.]+)', detail)
    assert [round(float(heat), 1) for heat in peaks] == [1.0, 0.9, 0.8, 0.7]
    faint = re.findall(r'class="tok" [^>]*--heat: ([\d.]+)', detail)
    assert faint
    assert all(0 < float(heat) < 0.01 for heat in faint)


def test_markup_in_data_stays_text(
    make_index: IndexMaker, read_page: PageReader, tmp_path: Path
) -> None:
    """A corpus, a name and a title can say what they like."""
    index = make_index(30, extra=ATTACK)
    explore(index, title=f"</title>{ATTACK}", summary=ATTACK, out=tmp_path / "page.html")
    dom = read_page(tmp_path / "page.html", hash="#latent=0")
    assert_no_errors(dom)
    assert "<title>owned" not in dom
    assert "<img" not in dom
    assert text_of(dom).count(ATTACK) >= 3  # heading, summary, context


def test_a_page_with_nothing_but_an_index_works(
    make_index: IndexMaker, read_page: PageReader, tmp_path: Path
) -> None:
    explore(make_index(3), out=tmp_path / "page.html")
    dom = read_page(tmp_path / "page.html")
    assert_no_errors(dom)
    assert "not named" in text_of(dom)


def test_a_phone_opens_the_latent_as_a_sheet(full_page: Path, read_page: PageReader) -> None:
    dom = read_page(full_page, hash="#latent=5", size=(500, 844))
    assert_no_errors(dom)
    assert re.search(r'class="saetools page[^"]*sheet-open', dom)


def test_20000_latents_start_in_seconds(
    make_index: IndexMaker, read_page: PageReader, tmp_path: Path
) -> None:
    page = explore(make_index(20_000), out=tmp_path / "page.html")
    dom = read_page(page.path, hash="#q=planted19998")
    assert_no_errors(dom)
    assert rows_of(dom) == [19_998]
    ready = re.search(r'data-ready="(\d+)"', dom)
    assert ready is not None
    assert int(ready[1]) < 8000  # milliseconds
