"""`saetools evaluate`: what an SAE keeps of the model, in numbers, as a table, JSON and a page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Quiet, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.planted import is_planted, known_facts, truth_of
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # a type only: `--help` must not pay for torch
    from saetools.corpus import Question
    from saetools.evaluate import EvaluationReport
    from saetools.sae import SAE

__all__ = ["command", "run_evaluate"]

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN... [KEY=VALUE]...",
        help="Runs (a YAML file, a run folder, or a folder inside one), and settings that differ.",
        show_default=False,
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", help="Comma-separated; short for evaluate.metrics.", metavar="LIST"),
]
ReportOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Where the report goes, as PATH.html and PATH.json, besides each run's folder.",
        metavar="PATH",
    ),
]


def command(
    runs: Runs,
    *,
    metrics: Metrics = None,
    out: ReportOut = None,
    device: Device = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure SAEs on documents that they were not trained on, one or several side by side.

    Writes evaluation.json and evaluation.html into each run folder. Metrics that do not apply to
    the model (loss of an encoder, embedding of a language model) are left out, with the reason,
    unless you name them. With several runs, or --out, one report shows them side by side; a run
    that was evaluated with these very settings is not evaluated again.

    \b
    Examples:
      saetools evaluate runs/demo
      saetools evaluate runs/demo --metrics reconstruction,sparsity
      saetools evaluate runs/k16 runs/k32 --out report
      saetools evaluate runs/demo evaluate.split=train --json
      saetools evaluate runs/demo --metrics sparse_probing,tpp evaluate.labelled=[genres.jsonl]
    """
    view = View(as_json, quiet)
    chosen = [] if metrics is None else [f"evaluate.metrics={json.dumps(metrics.split(','))}"]
    settings = [*(item for item in runs if _is_setting(item)), *chosen]
    named = [item for item in runs if not _is_setting(item)]
    if not named:
        raise typer.BadParameter("name at least one run before the settings", param_hint="RUN")
    folders = [open_run(run, settings, device=device, seed=seed) for run in named]
    with view.progress():
        if dry_run:
            outcomes = [folder.plan("evaluate") for folder in folders]
        elif len(folders) == 1 and out is None:
            outcomes = [run_evaluate(folders[0])]
        else:
            outcomes = [_side_by_side(folders, out or Path("evaluation"))]
    for outcome in outcomes:
        view.show(outcome)


def run_evaluate(run: RunFolder) -> Outcome:
    """Run the metrics of a run on its SAE."""
    from saetools.explore import show_evaluation  # heavy: torch, sklearn

    report, path = _evaluated(run), run.product("evaluate")
    page = show_evaluation(report, title=f"Evaluation of {run.config.name}")
    page.save(path.with_suffix(".html"))
    return Outcome(
        title=f"evaluated on the {run.config.evaluate.split} documents",
        table=_table({"value": report}),
        text=_beside(path, report),
        wrote=(path, path.with_suffix(".html")),
        next=f"saetools name {run.path}",
    )


def _side_by_side(runs: Sequence[RunFolder], out: Path) -> Outcome:
    from saetools.evaluate import EvaluationReport  # heavy: torch, sklearn
    from saetools.explore import show_evaluation
    from saetools.explore.evaluation import left_out
    from saetools.explore.runs import names_of

    reports = {}
    for name, run in zip(names_of([run.path for run in runs]), runs, strict=True):
        if not run.up_to_date("evaluate"):
            run_evaluate(run)
        reports[name] = EvaluationReport.load(run.product("evaluate"))
    path = out if out.suffix == ".html" else out.with_name(f"{out.name}.html")
    page = show_evaluation(reports, out=path)
    return Outcome(
        title=f"evaluated {len(runs)} run{'' if len(runs) == 1 else 's'}",
        table=_table(reports),
        text="\n".join([*page.notes, _left_out(left_out(reports))]).strip(),
        wrote=(path, path.with_suffix(".json")),
        next=f"open {path}",
    )


def _evaluated(run: RunFolder) -> "EvaluationReport":
    # heavy: torch, sklearn
    from saetools.corpus import load_labelled
    from saetools.evaluate import evaluate

    block = run.config.evaluate
    labelled = [load_labelled(file, field=block.label_field) for file in block.labelled]
    twins = [_twin(folder) for folder in block.twins]
    questions = _questions(block.questions)
    if is_planted(run) and not questions:
        questions = known_facts(run)
    with run.stage("evaluate"), run.store() as store:
        report = evaluate(
            run.sae(),
            store,
            model=run.model,
            corpus=run.corpus,
            metrics=block.metrics,
            split=block.split,
            n_docs=block.n_docs,
            labelled=labelled,
            concept_pairs=block.concept_pairs,
            twins=twins,
            concepts=truth_of(run, store).hierarchy() if is_planted(run) else None,
            questions=questions,
            seed=run.config.seed,
        )
        report.save(run.product("evaluate"))
    return report


def _table(reports: "Mapping[str, EvaluationReport]") -> list[dict[str, Any]]:
    """A row for each figure, a column for each report."""
    meanings = {
        row.figure.name: row.figure.meaning for report in reports.values() for row in report.rows
    }
    return [
        {
            "figure": name,
            **{column: report.values.get(name) for column, report in reports.items()},
            "meaning": meaning,
        }
        for name, meaning in meanings.items()
    ]


def _beside(path: Path, report: "EvaluationReport") -> str:
    """What the table does not show: tables in the file, and metrics that were left out."""
    tables = [f"{path.name} has the table {t.name}: {t.meaning}" for t in report.tables]
    return "\n".join([*tables, _left_out(report.skipped)]).strip()


def _left_out(skipped: Mapping[str, str]) -> str:
    return "\n".join(f"left out {name}: {why}" for name, why in skipped.items())


def _is_setting(item: str) -> bool:
    return "=" in item and not Path(item).exists()


def _questions(files: Sequence[str]) -> "tuple[Question, ...]":
    """The questions of .jsonl files, and of pairs of .json files in RAVEL's format."""
    # heavy: torch
    from saetools.corpus import load_questions
    from saetools.corpus.ravel import load_ravel

    found: list[Question] = []
    left = list(files)
    while left:
        file = left.pop(0)
        if Path(file).suffix != ".json":
            found += load_questions(file)
        elif left:
            found += load_ravel(file, left.pop(0))
        else:
            raise ConfigError(
                f"evaluate.questions: {file} is a .json file and the last one; RAVEL's entities "
                "are followed by the file of their prompts"
            )
    return tuple(found)


def _twin(folder: str) -> "SAE":
    """The SAE of a run folder, or of an SAE folder."""
    from saetools.sae import SAE  # heavy: torch

    inside = Path(folder) / "sae"
    return SAE.load(inside if inside.is_dir() else folder)
