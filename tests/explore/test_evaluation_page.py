"""The page of evaluation reports: what stands side by side, its JSON, and what a browser sees."""

import html
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from saetools.errors import ConfigError
from saetools.evaluate import EvaluationReport, Figure
from saetools.evaluate.base import Curve, Table
from saetools.explore import show_evaluation
from saetools.explore.evaluation import left_out

PageReader = Callable[..., str]

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "evaluation-1.json"
ATTACK = "<img src=x onerror=document.title='owned'>"

FVU = Figure("fvu", "variance left", "lower", (0.0, math.inf))
FVU_AT = Figure("fvu_at_8", "variance left with 8", "lower", (0.0, math.inf))
COSINE = Figure("cosine", "mean cosine", "higher", (-1.0, 1.0))
DEAD = Figure("dead_fraction", "never fire", "lower", (0.0, 1.0))
EXTRA = Figure("extra", "of a metric from elsewhere", "none", (-math.inf, math.inf))


def report(
    fvu: float, *, split: str = "held_out", meaning: str = "mean cosine"
) -> EvaluationReport:
    return EvaluationReport(
        rows=(
            FVU.measured(fvu, stderr=0.01),
            FVU_AT.measured(fvu * 2),
            replace(COSINE, meaning=meaning).measured(1 - fvu, stderr=0.02),
            DEAD.measured(0.25),
            EXTRA.measured(math.nan),
        ),
        curves=(Curve("log10_firing_rate", "live latents", (-2.0, -1.0, 0.0), (3.0, 5.0)),),
        tables=(Table("by_concept", "one row a concept", ("concept", "auroc"), (("owl", 0.75),)),),
        skipped={"loss_recovered": "it runs a language model"},
        about={
            "sae": {"type": "topk", "d_in": 4, "n_latents": 16, "k": 2},
            "hook_name": "blocks.1.hook_resid_post",
            "model": "planted",
            "corpus": "texts",
            "split": split,
            "n_docs": 12,
            "figures": {"reconstruction": ["fvu", "fvu_at_8", "cosine", "dead_fraction"]},
            "curves": {"reconstruction": ["log10_firing_rate"]},
            "tables": {"reconstruction": ["by_concept"]},
        },
    )


def text_of(dom: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", "", dom, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.mark.parametrize("n", [1, 3])
def test_the_json_beside_the_page_follows_its_schema(tmp_path: Path, n: int) -> None:
    reports = {f"run{i}": report(0.1 * (i + 1)) for i in range(n)}
    page = show_evaluation(reports, out=tmp_path / "report.html")
    assert page.path == tmp_path / "report.html"
    content = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(content, schema)
    del (content["reports"][0] if n > 1 else content)["rows"][0]["direction"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)


def test_one_report_is_saved_as_its_own_file_is(tmp_path: Path) -> None:
    one = report(0.2)
    show_evaluation(one, out=tmp_path / "page.html")
    loaded = EvaluationReport.load(tmp_path / "page.json")
    assert loaded.values["fvu"] == 0.2
    assert loaded.figures_of == one.figures_of


def test_reports_of_different_activations_are_marked() -> None:
    assert show_evaluation({"a": report(0.1), "b": report(0.2)}).notes == ()
    (note,) = show_evaluation({"a": report(0.1), "b": report(0.2, split="train")}).notes
    assert "different activations" in note


def test_a_metric_that_one_run_lacks_is_said_with_the_name_of_the_run() -> None:
    why = "it runs a language model"
    both = {"a": report(0.1), "b": report(0.2)}
    assert left_out(both) == {"loss_recovered": why}
    one = {"a": report(0.1), "b": replace(report(0.2), skipped={})}
    assert left_out(one) == {"loss_recovered": f"in a: {why}"}
    other = {"a": report(0.1), "b": replace(report(0.2), skipped={"loss_recovered": "no text"})}
    assert left_out(other) == {"loss_recovered": f"in a: {why}; in b: no text"}


def test_no_report_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no evaluation report"):
        show_evaluation({})


def test_the_page_shows_each_metric_with_its_figures_side_by_side(
    tmp_path: Path, read_page: PageReader
) -> None:
    reports = {"low": report(0.25), "high": report(0.5)}
    made = show_evaluation(reports, title="Mine & yours", out=tmp_path / "report.html")
    dom = read_page(made.path)
    assert 'data-error="' not in dom
    assert 'data-ready="' in dom
    text = text_of(dom)
    assert "Mine & yours" in text
    assert "12 held-out documents" in text
    assert "0.25 ± 0.01 0.5 ± 0.01" in text  # FVU of both, with their errors
    (row,) = re.findall(r"<tr><th scope=\"row\">FVU<.*?</tr>", dom)
    assert re.findall(r'class="number( best)?"', row) == [" best", ""], "the lower is the better"
    assert "FVU by width" in text
    assert "FVU at 8" not in text, "figures at a width are the plot's"
    assert "Other figures" in text, "a figure of no known metric is not lost"
    assert "Loss recovered It runs a language model" in text.replace("it runs", "It runs")
    assert text.count("concept auroc owl 0.75") == 2, "a table for each SAE"
    assert dom.count('class="chart-svg"') == 3  # intervals, by width, firing rates


def test_whiskers_are_95_percent_intervals_on_the_scale_of_the_axis(
    tmp_path: Path, read_page: PageReader
) -> None:
    made = show_evaluation(report(0.5), out=tmp_path / "report.html")
    dom = read_page(made.path)
    ((x1, x2),) = re.findall(r'class="whisker" x1="([\d.]+)" x2="([\d.]+)"', dom)
    cosine, dead = (
        float(x) for x in re.findall(r'class="end" cx="([\d.]+)" cy="[\d.]+" r="4.5"', dom)
    )
    per_unit = (cosine - dead) / (0.5 - 0.25)
    assert (float(x2) - float(x1)) / per_unit == pytest.approx(2 * 1.96 * 0.02, rel=0.02)


def test_a_meaning_that_looks_like_markup_stays_text(tmp_path: Path, read_page: PageReader) -> None:
    made = show_evaluation({ATTACK: report(0.5, meaning=ATTACK)}, out=tmp_path / "report.html")
    dom = read_page(made.path)
    assert "<img" not in dom
    assert "owned</title>" not in dom
    assert ATTACK in text_of(dom)
