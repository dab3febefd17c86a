"""`saetools evaluate`: what the SAE keeps of the model, in numbers, into evaluation.json."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder

if TYPE_CHECKING:  # a type only: `--help` must not pay for torch (2.4 s)
    from saetools.sae import SAE

__all__ = ["command", "run_evaluate"]

Metrics = Annotated[
    str | None,
    typer.Option("--metrics", help="Comma-separated; short for evaluate.metrics.", metavar="LIST"),
]


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    metrics: Metrics = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the SAE on documents that it was not trained on.

    Writes evaluation.json into the run folder. Metrics that do not apply to the model (loss of an
    encoder, embedding of a language model) are left out, with the reason, unless you name them.

    \b
    Examples:
      saetools evaluate runs/demo
      saetools evaluate runs/demo --metrics reconstruction,sparsity
      saetools evaluate runs/demo evaluate.split=train --json
      saetools evaluate runs/demo --metrics sparse_probing,tpp evaluate.labelled=[genres.jsonl]
    """
    view = View(as_json, quiet)
    chosen = [] if metrics is None else [f"evaluate.metrics={json.dumps(metrics.split(','))}"]
    folder = open_run(run, [*(overrides or ()), *chosen], out=out, device=device, seed=seed)
    with view.progress():
        outcome = folder.plan("evaluate") if dry_run else run_evaluate(folder)
    view.show(outcome)


def run_evaluate(run: RunFolder) -> Outcome:
    """Run the metrics of a run on its SAE."""
    # heavy: torch, sklearn
    from saetools.corpus import load_labelled
    from saetools.evaluate import evaluate

    block, path = run.config.evaluate, run.product("evaluate")
    labelled = [load_labelled(file, field=block.label_field) for file in block.labelled]
    twins = [_twin(folder) for folder in block.twins]
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
            seed=run.config.seed,
        )
        report.save(path)
    table = [
        {"figure": row.figure.name, "value": row.value, "meaning": row.figure.meaning}
        for row in report.rows
    ]
    return Outcome(
        title=f"evaluated on the {block.split} documents",
        table=table,
        text="\n".join(
            [
                *(f"{path.name} has the table {t.name}: {t.meaning}" for t in report.tables),
                *(f"left out {name}: {why}" for name, why in report.skipped.items()),
            ]
        ),
        wrote=(path,),
        next=f"saetools name {run.path}",
    )


def _twin(folder: str) -> "SAE":
    """The SAE of a run folder, or of an SAE folder."""
    from saetools.sae import SAE  # heavy: torch

    inside = Path(folder) / "sae"
    return SAE.load(inside if inside.is_dir() else folder)
