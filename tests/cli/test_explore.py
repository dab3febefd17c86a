"""`saetools explore`: the page and its size, elsewhere if asked, with the scores of the names."""

import json
import re
from pathlib import Path

from saetools.naming import NamesTable


def test_the_page_goes_where_it_is_asked_for_and_its_size_is_said(
    cli, trained: Path, tmp_path: Path
):
    out = tmp_path / "new" / "latents.html"
    result = cli("explore", trained, "--html", "--out", out)
    assert result.exit_code == 0, result.output
    size = re.search(r"([\d.]+) MB in one file", result.stdout)
    assert size is not None
    assert abs(float(size[1]) - out.stat().st_size / 1e6) <= 0.051
    assert not (trained / "report.html").exists()


def test_without_a_place_the_page_is_the_runs_report(cli, trained: Path):
    answer = json.loads(cli("explore", trained, "--json").stdout)
    assert answer["wrote"] == [str(trained / "report.html")]
    assert answer["figures"]["bytes"] == (trained / "report.html").stat().st_size


def test_a_folder_is_no_place_for_a_page(cli, trained: Path, tmp_path: Path):
    result = cli("explore", trained, "--out", tmp_path)
    assert result.exit_code == 1
    assert "is a folder" in result.stderr


def lacking(cli, run: Path) -> str:
    return json.loads(cli("explore", run, "--json").stdout)["text"].partition("without")[2]


def test_scores_of_names_are_on_the_page_until_the_names_change(cli, trained: Path):
    assert "scores" in lacking(cli, trained)
    for words in (["name", trained], ["score", trained]):
        result = cli(*words)
        assert result.exit_code == 0, result.output
    assert "scores" not in lacking(cli, trained)
    assert cli("name", trained, "naming.n_words=1").exit_code == 0
    assert "scores" in lacking(cli, trained)


def test_names_exported_by_the_page_are_read_back(cli, trained: Path, tmp_path: Path):
    """The columns and quoting of static/edits.js; test_page_by_hand has the export itself."""
    path = tmp_path / "names.csv"
    path.write_text('latent,name,namer\n3,"a ""quoted"" name, with a comma",manual\n')
    result = cli("name", trained, "--namer", "manual", f"naming.path={path}")
    assert result.exit_code == 0, result.output
    found = NamesTable.load(trained / "names.csv").get(3)
    assert found is not None
    assert (found.name, found.namer) == ('a "quoted" name, with a comma', "manual")
