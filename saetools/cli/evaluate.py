"""`saetools evaluate`: what the SAE keeps of the model, in numbers, into evaluation.json."""

import json
from typing import Annotated

import typer

from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder

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
    """
    view = View(as_json, quiet)
    chosen = [] if metrics is None else [f"evaluate.metrics={json.dumps(metrics.split(','))}"]
    folder = open_run(run, [*(overrides or ()), *chosen], out=out, device=device, seed=seed)
    with view.progress():
        outcome = folder.plan("evaluate") if dry_run else run_evaluate(folder)
    view.show(outcome)


def run_evaluate(run: RunFolder) -> Outcome:
    """Run the metrics of a run on its SAE."""
    from saetools.evaluate import evaluate  # heavy: torch, sklearn

    block, path = run.config.evaluate, run.product("evaluate")
    with run.stage("evaluate"), run.store() as store:
        report = evaluate(
            run.sae(),
            store,
            model=run.model,
            corpus=run.corpus,
            metrics=block.metrics,
            split=block.split,
            n_docs=block.n_docs,
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
        text="\n".join(f"left out {name}: {why}" for name, why in report.skipped.items()),
        wrote=(path,),
        next=f"saetools name {run.path}",
    )
