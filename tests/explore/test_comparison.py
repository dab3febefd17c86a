"""The comparison of runs: which figures, from where, the frontier, and what it warns of."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from saetools.errors import ConfigError, FormatError
from saetools.explore import Comparison, compare
from saetools.explore.comparison import frontier
from saetools.sae import SAE, build_sae
from saetools.train import stability

RunMaker = Callable[..., Path]


def test_the_frontier_is_what_no_other_run_beats_in_both() -> None:
    points = [(4, 0.5), (8, 0.3), (8, 0.4), (16, 0.3), (16, 0.1), (32, 0.2), (2, 0.9)]
    assert frontier(points) == [True, True, False, False, True, False, True]


def test_equal_points_share_the_frontier_and_unmeasured_ones_have_no_part_in_it() -> None:
    assert frontier([(4, 0.5), (4, 0.5)]) == [True, True]
    assert frontier([(math.nan, 0.1), (4, 0.5), (2, math.inf)]) == [False, True, False]
    assert frontier([]) == []


def test_l0_that_differ_by_less_than_a_hundredth_are_one_l0() -> None:
    assert frontier([(24.01, 0.18), (24.02, 0.16), (24.03, 0.14)]) == [False, False, True]
    assert frontier([(24.0, 0.18), (24.5, 0.16)]) == [True, True]


def test_each_run_is_a_row_with_its_settings_and_figures(
    make_run: RunMaker, tmp_path: Path
) -> None:
    make_run(tmp_path / "a", fvu=0.25, l0=8.0, arch="batch_topk", n_latents=64, k=8, seed=3)
    (row,) = compare([tmp_path / "a"]).runs
    assert row == {
        "name": "a",
        "folder": str(tmp_path / "a"),
        "architecture": "BatchTopK",
        "n_latents": 64,
        "k": 8,
        "seed": 3,
        "n_tokens": 20_000,
        "fvu": 0.25,
        "l0": 8.0,
        "dead_fraction": 0.125,
        "measured_on": "the health report, held-out rows",
        "loss_recovered": None,
        "tokens_per_second": pytest.approx(20_000 / (10 * 10 + 10 * 5)),
        "frontier": True,
    }


def test_all_runs_are_measured_in_the_same_place_where_one_has_them_all(
    make_run: RunMaker, tmp_path: Path
) -> None:
    a = make_run(tmp_path / "a", fvu=0.2, l0=8, loss_recovered=0.9)
    b = make_run(tmp_path / "b", fvu=0.3, l0=4, health=False)
    c = make_run(tmp_path / "c", fvu=0.4, l0=4)
    page = compare([a, c])  # only one was evaluated: the health report has both
    assert [run["measured_on"] for run in page.runs] == ["the health report, held-out rows"] * 2
    assert [run["loss_recovered"] for run in page.runs] == [0.9, None]
    assert page.notes == ()
    page = compare([a, b])  # b has training rows alone, where its FVU is twice as high
    assert [run["fvu"] for run in page.runs] == [0.4, 0.6]
    assert {run["measured_on"] for run in page.runs} == {"the last training batches"}


def test_figures_from_different_places_are_marked(make_run: RunMaker, tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", fvu=0.2, l0=8)
    b = make_run(tmp_path / "b", fvu=0.3, l0=4, health=False)
    (a / "metrics.jsonl").unlink()
    page = compare([a, b])
    assert [run["fvu"] for run in page.runs] == [0.2, 0.6]
    assert any("different places" in note for note in page.notes)


def test_runs_on_other_activations_are_marked(make_run: RunMaker, tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", fvu=0.2, l0=8)
    b = make_run(tmp_path / "b", fvu=0.3, l0=4, store="two")
    assert any("different activations" in note for note in compare([a, b]).notes)


def test_a_run_of_which_nothing_was_measured_is_listed_and_named(
    make_run: RunMaker, tmp_path: Path
) -> None:
    a = make_run(tmp_path / "a", fvu=0.2, l0=8)
    b = make_run(tmp_path / "b", fvu=0.3, l0=4, health=False)
    (b / "metrics.jsonl").unlink()
    page = compare([a, b])
    assert page.notes == ("Nothing was measured of b.",)
    assert [run["frontier"] for run in page.runs] == [True, False]
    assert page.to_json()["runs"][1]["fvu"] is None


def test_an_evaluation_that_is_older_than_the_sae_does_not_count(
    make_run: RunMaker, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a", fvu=0.2, l0=8, loss_recovered=0.9)
    stages = {"train": {"finished": True}, "evaluate": {"finished": False, "stale": True}}
    (run / "run.json").write_text(json.dumps({"format": "saetools-run/1", "stages": stages}))
    (row,) = compare([run]).runs
    assert row["loss_recovered"] is None
    assert "health" in row["measured_on"]
    (run / "run.json").write_text("{")
    with pytest.raises(FormatError, match=r"run\.json is damaged"):
        compare([run])


def test_a_folder_of_runs_stands_for_all_in_it_and_a_run_counts_once(
    make_run: RunMaker, tmp_path: Path
) -> None:
    for k in (2, 4, 8):
        make_run(tmp_path / "sweep" / f"k{k}", fvu=1 / k, l0=k)
    page = compare([tmp_path / "sweep", tmp_path / "sweep" / "k4", tmp_path / "sweep" / "k4/sae"])
    assert [run["name"] for run in page.runs] == ["k2", "k4", "k8"]
    assert compare(tmp_path / "sweep").runs == page.runs


def test_runs_of_one_name_are_told_apart(make_run: RunMaker, tmp_path: Path) -> None:
    folders = [make_run(tmp_path / x / "run", fvu=0.1, l0=4) for x in ("a", "b")]
    assert [run["name"] for run in compare(folders).runs] == ["a/run", "b/run"]


def test_a_folder_without_an_sae_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no trained SAE"):
        compare([tmp_path])
    with pytest.raises(ConfigError, match="given none"):
        compare([])


def test_the_page_and_the_same_as_json_are_written(make_run: RunMaker, tmp_path: Path) -> None:
    make_run(tmp_path / "a", fvu=0.2, l0=8)
    page = compare([tmp_path / "a"], title="Mine", out=tmp_path / "new" / "compare.html")
    assert isinstance(page, Comparison)
    assert page.path == tmp_path / "new" / "compare.html"
    assert page.path.read_text(encoding="utf-8") == page.html
    found = json.loads((tmp_path / "new" / "compare.json").read_text())
    assert found == page.to_json()
    assert found["format"] == "saetools-comparison/1"
    assert found["runs"][0]["curve"]["n_tokens"][-1] == 20_000
    assert sorted(p.name for p in page.path.parent.iterdir()) == ["compare.html", "compare.json"]
    assert repr(page).startswith("Comparison(1 run, 0.")


def test_the_page_refers_to_nothing_outside(make_run: RunMaker, tmp_path: Path) -> None:
    page = compare([make_run(tmp_path / "a", fvu=0.2, l0=8)]).html
    outside = [url for url in re.findall(r"https?://[^\s\"'<>]+", page) if "w3.org" not in url]
    assert outside == []  # w3.org: the name of SVG's namespace, never fetched
    assert re.findall(r"""(?:src|href)=["'](?!#)""", page) == []
    assert re.findall(r"url\(|@import", page) == []
    assert "default-src 'none'" in page
    assert page.count("<script") == page.count("</script>") == 3


def test_a_notebook_shows_the_comparison_in_a_sandbox(make_run: RunMaker, tmp_path: Path) -> None:
    shown = compare([make_run(tmp_path / "a", fvu=0.2, l0=8)])._repr_html_()
    assert 'sandbox="allow-scripts allow-downloads"' in shown
    assert "allow-same-origin" not in shown


def test_runs_that_differ_by_their_seed_alone_are_matched(
    make_run: RunMaker, tmp_path: Path
) -> None:
    """The figure is `stability`'s; runs of another k, of other rows, or of one seed have none."""
    a = make_run(tmp_path / "a", fvu=0.2, l0=4, seed=1)
    b = make_run(tmp_path / "b", fvu=0.2, l0=4, seed=2)
    others = [
        make_run(tmp_path / "k", fvu=0.2, l0=4, seed=3, k=2),
        make_run(tmp_path / "rows", fvu=0.2, l0=4, seed=4, store="two"),
        make_run(tmp_path / "again", fvu=0.2, l0=4, seed=1),
    ]
    twin = build_sae("topk", d_in=8, n_latents=32, k=4, seed=9)
    sae = SAE.load(b / "sae")
    sae.with_tensors(twin.state_dict()).save(b / "sae")
    page = compare([a, b, *others])
    found = stability(SAE.load(a / "sae"), SAE.load(b / "sae"))
    assert page.agreements[0] == f"a and b agree: {found.sentence}"
    assert f"mean cosine {found.mean_cosine:.3f}" in page.agreements[0]
    assert [line.split(" agree")[0] for line in page.agreements] == ["a and b", "b and again"]
    assert page.to_json()["agreements"] == list(page.agreements)
