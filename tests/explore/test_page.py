"""The page as a file: self-contained, small, written whole, safe to embed."""

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from saetools.analysis import LatentIndex, index_latents
from saetools.errors import ShapeError
from saetools.explore import Page, explore
from saetools.models import LanguageModel
from saetools.naming import NamesTable, name_latents
from saetools.naming.base import Name
from saetools.sae import build_sae
from saetools.store import ActivationStore

IndexMaker = Callable[..., LatentIndex]


def test_the_page_refers_to_nothing_outside(make_index: IndexMaker) -> None:
    page = explore(make_index(30)).html
    outside = [url for url in re.findall(r"https?://[^\s\"'<>]+", page) if "w3.org" not in url]
    assert outside == []  # w3.org: the name of SVG's namespace, never fetched
    assert re.findall(r"""(?:src|href)=["'](?!#)""", page) == []
    assert re.findall(r"url\(|@import|\bimport\b[ (]", page) == []
    assert "default-src 'none'" in page


def test_the_script_meets_no_end_tag_before_its_own(make_index: IndexMaker) -> None:
    page = explore(make_index(30), title="</script><script>alert(1)</script>").html
    assert page.count("</script>") == 3  # head, body, script
    assert page.count("<script") == 3


def test_size_grows_with_the_number_of_latents_and_not_faster(make_index: IndexMaker) -> None:
    small, medium, large = (explore(make_index(n)).n_bytes for n in (500, 1000, 2000))
    assert (large - medium) < 2.2 * (medium - small)
    assert (large - medium) / 1000 < 400  # bytes a latent with four contexts of nine tokens


def test_equal_data_give_equal_pages(make_index: IndexMaker, names: NamesTable) -> None:
    assert explore(make_index(30), names=names).html == explore(make_index(30), names=names).html


def test_save_writes_the_page_and_leaves_nothing_else(
    make_index: IndexMaker, tmp_path: Path
) -> None:
    page = explore(make_index(30), out=tmp_path / "new" / "page.html")
    assert page.path == tmp_path / "new" / "page.html"
    assert page.path.read_text(encoding="utf-8") == page.html
    assert [path.name for path in page.path.parent.iterdir()] == ["page.html"]


def test_repr_says_how_large_the_page_is_and_where(make_index: IndexMaker, tmp_path: Path) -> None:
    page = explore(make_index(30))
    assert repr(page) == f"Page(30 latents, {page.n_bytes / 1e6:.1f} MB, not saved)"
    assert str(tmp_path / "a.html") in repr(page.save(tmp_path / "a.html"))


def test_a_notebook_shows_the_page_in_a_sandbox() -> None:
    shown = Page('<p class="x">&</p>', 1)._repr_html_()
    assert 'sandbox="allow-scripts allow-downloads"' in shown
    assert "allow-same-origin" not in shown
    assert 'srcdoc="&lt;p class=&quot;x&quot;&gt;&amp;&lt;/p&gt;"' in shown


def test_a_page_too_large_for_a_notebook_says_how_to_open_it() -> None:
    shown = Page("x" * 25_000_000, 1)._repr_html_()
    assert "iframe" not in shown
    assert "save(path)" in shown


def test_a_real_index_makes_a_page(tiny_store: ActivationStore, tiny_lm: LanguageModel) -> None:
    sae = build_sae("topk", d_in=16, n_latents=64, k=4)
    index = index_latents(sae, tiny_store, model=tiny_lm)
    names = name_latents(index)
    page = explore(index, names=names, sae=sae, map="pca")
    packed = re.search(r'id="head-data">([^<]*)<', page.html)
    assert packed is not None
    head = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    assert [name for name in head["names"] if name] == [name.name for name in names]
    shown = {token for view in index for context in view.examples for token in context.tokens}
    assert shown <= set(head["vocab"])
    assert ["Model", "planted"] in head["facts"]


def test_an_sae_of_another_size_is_refused(make_index: IndexMaker) -> None:
    with pytest.raises(ShapeError, match="index of 30 latents and an SAE of 64"):
        explore(make_index(30), sae=build_sae("topk", d_in=16, n_latents=64, k=4))


def test_names_of_another_index_are_refused(make_index: IndexMaker) -> None:
    names = NamesTable([Name(30, "beyond", 0.5, "", "manual")])
    with pytest.raises(ShapeError, match="latent 30"):
        explore(make_index(30), names=names)
