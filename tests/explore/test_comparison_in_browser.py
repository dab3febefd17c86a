"""The comparison page as Chromium sees it: points, order, curves, no errors, markup stays text."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from saetools.explore import compare

RunMaker = Callable[..., Path]
PageReader = Callable[..., str]

ATTACK = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def page(make_run: RunMaker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs: three on the frontier, one that another beats."""
    folder = tmp_path_factory.mktemp("compare")
    make_run(folder / "runs" / "k4", fvu=0.5, l0=4, k=4, loss_recovered=0.7)
    make_run(folder / "runs" / "k8", fvu=0.3, l0=8, k=8, arch="batch_topk", loss_recovered=0.9)
    make_run(folder / "runs" / "worse", fvu=0.45, l0=9, k=8, loss_recovered=0.8)
    make_run(folder / "runs" / "k16", fvu=0.1, l0=16, k=16, loss_recovered=0.95)
    made = compare([folder / "runs"], title="Mine & yours", out=folder / "compare.html")
    assert made.path is not None
    return made.path


def names_of(dom: str) -> list[str]:
    """Names in the table, from top to bottom."""
    body = dom[dom.index("<tbody") : dom.index("</tbody")]
    return re.findall(r'class="name">([^<]*)<', body)


def text_of(dom: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", "", dom, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def assert_no_errors(dom: str) -> None:
    assert 'data-error="' not in dom
    assert 'data-ready="' in dom


@pytest.mark.parametrize("size", [(1280, 900), (500, 844)])
def test_all_parts_are_drawn_without_errors(
    page: Path, read_page: PageReader, size: tuple[int, int]
) -> None:
    dom = read_page(page, size=size)
    assert_no_errors(dom)
    text = text_of(dom)
    assert "Mine & yours" in text
    assert "saetools evaluate, held-out rows" in text
    assert dom.count('class="chart-svg"') == 2
    assert len(re.findall(r'class="curve"', dom)) == 4
    assert "Loss recovered" in text


def test_the_points_on_the_frontier_are_filled_and_joined(
    page: Path, read_page: PageReader
) -> None:
    dom = read_page(page)
    points = re.findall(r'class="run hue-\d( on)?" tabindex="0"[^>]*aria-label="(\w+),', dom)
    assert {name for on, name in points if on} == {"k4", "k8", "k16"}
    assert {name for on, name in points if not on} == {"worse"}
    (path,) = re.findall(r'class="frontier" d="([^"]*)"', dom)
    assert len(re.findall(r"[ML]", path)) == 3
    x, y = zip(*re.findall(r"[ML]([\d.]+) ([\d.]+)", path), strict=True)
    assert sorted(map(float, x)) == list(map(float, x)), "from few to many active latents"
    assert sorted(map(float, y)) == list(map(float, y)), "downwards: y of a screen grows"


@pytest.mark.parametrize(
    ("hash", "names"),
    [
        ("", ["k16", "k8", "worse", "k4"]),  # the lowest FVU first
        ("#sort=l0&order=up", ["k4", "k8", "worse", "k16"]),
        ("#sort=loss_recovered&order=down", ["k16", "k8", "worse", "k4"]),
        ("#sort=name&order=up", ["k4", "k8", "k16", "worse"]),  # 8 before 16
        ("#sort=nonsense", ["k16", "k8", "worse", "k4"]),
    ],
)
def test_the_table_is_in_the_order_that_is_asked_for(
    page: Path, read_page: PageReader, hash: str, names: list[str]
) -> None:
    dom = read_page(page, hash=hash)
    assert_no_errors(dom)
    assert names_of(dom) == names
    assert len(re.findall(r'<th [^>]*aria-sort="(?:ascending|descending)"', dom)) == 1


def test_runs_without_a_figure_stand_last_and_off_the_plot(
    make_run: RunMaker, read_page: PageReader, tmp_path: Path
) -> None:
    make_run(tmp_path / "runs" / "known", fvu=0.5, l0=4)
    lost = make_run(tmp_path / "runs" / "a_lost", fvu=0.5, l0=4, health=False)
    (lost / "metrics.jsonl").unlink()
    compare(tmp_path / "runs", out=tmp_path / "page.html")
    for order in ("up", "down"):
        dom = read_page(tmp_path / "page.html", hash=f"#sort=fvu&order={order}")
        assert_no_errors(dom)
        assert names_of(dom) == ["known", "a_lost"]
    assert "1 run without figures is left out" in text_of(dom)


def test_one_run_of_which_nothing_is_known_is_still_a_page(
    make_run: RunMaker, read_page: PageReader, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "only", fvu=0.5, l0=4, health=False)
    (run / "metrics.jsonl").unlink()
    compare([run], out=tmp_path / "page.html")
    dom = read_page(tmp_path / "page.html")
    assert_no_errors(dom)
    assert names_of(dom) == ["only"]
    assert dom.count('class="chart-svg"') == 0


def test_many_runs_share_hues_by_architecture(
    make_run: RunMaker, read_page: PageReader, tmp_path: Path
) -> None:
    for k in range(1, 11):
        for arch in ("topk", "batch_topk"):
            make_run(tmp_path / "runs" / f"{arch}{k}", fvu=1 / k, l0=k, k=k, arch=arch, n_rows=3)
    compare(tmp_path / "runs", out=tmp_path / "page.html")
    dom = read_page(tmp_path / "page.html")
    assert_no_errors(dom)
    assert len(names_of(dom)) == 20
    assert len(set(re.findall(r'class="swatch (hue-\d)', dom))) == 2
    assert dom.count('class="stroke') == 4  # two architectures in each of two legends


def test_markup_in_names_and_titles_stays_text(
    make_run: RunMaker, read_page: PageReader, tmp_path: Path
) -> None:
    name = ATTACK.replace("/", "")
    make_run(tmp_path / "runs" / name, fvu=0.5, l0=4)
    make_run(tmp_path / "runs" / "plain", fvu=0.4, l0=4)
    compare(tmp_path / "runs", title=f"</title>{ATTACK}", out=tmp_path / "page.html")
    dom = read_page(tmp_path / "page.html")
    assert_no_errors(dom)
    assert "<title>owned" not in dom
    assert "<img" not in dom
    assert text_of(dom).count("onerror=") >= 3  # heading, table, legend
