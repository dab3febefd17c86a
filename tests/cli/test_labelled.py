"""`saetools evaluate` on labelled texts, from the command line to the report."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from saetools.evaluate import EvaluationReport

Cli = Callable[..., Result]


def _labelled(path: Path) -> Path:
    rng = random.Random(0)
    rows = []
    for _ in range(160):
        topics = [topic for topic in ("ship", "cow") if rng.random() < 0.5]
        words = [*topics, *rng.choices(["the", "and", "house", "sun"], k=5)]
        rows.append({"text": " ".join(words), "topics": topics})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_labelled_texts_are_named_on_the_command_line(
    cli: Cli, trained: Path, tmp_path: Path
) -> None:
    file = _labelled(tmp_path / "topics.jsonl")
    result = cli(
        "evaluate", trained, "--metrics", "sparse_probing,scr,tpp,stability", "--json",
        f"evaluate.labelled=[{file}]", "evaluate.label_field=topics",
        "evaluate.concept_pairs=[[cow, ship]]", f"evaluate.twins=[{trained}]",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    figures = {row["figure"]: row["value"] for row in shown["table"]}
    assert figures["probe_auroc_raw"] > 0.9  # the words themselves
    assert figures["stability"] > 0.999  # the twin is the run itself
    assert "evaluation.json has the table sparse_probing" in shown["text"]
    report = EvaluationReport.load(trained / "evaluation.json")
    assert {table.name for table in report.tables} == {"sparse_probing", "scr", "tpp", "stability"}
    assert report.about["labelled"] == ["topics"]
    (row,) = report.details("scr").rows
    assert row[0] == "topics"


def test_the_labels_of_the_corpus_are_used_where_no_file_is_named(cli: Cli, trained: Path) -> None:
    result = cli("evaluate", trained, "--metrics", "tpp", "evaluate.split=all", "--json")
    assert result.exit_code == 0, result.output
    tables = EvaluationReport.load(trained / "evaluation.json").tables
    assert {row[1] for row in tables[0].rows} == {"sea", "farm", "city"}


def test_a_bad_file_is_one_error_and_leaves_the_report(
    cli: Cli, trained: Path, tmp_path: Path
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "x", "genre": "a"}')
    for asked, words in ((file, "fields found: text, genre"), ("no.jsonl", "there is no file")):
        result = cli("evaluate", trained, f"evaluate.labelled=[{asked}]")
        assert result.exit_code == 1
        assert words in " ".join(result.stderr.split())
