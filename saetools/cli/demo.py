"""`saetools demo`: the whole path on a real text encoder, with honest numbers at the end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from saetools.cli.ablate import run_concept_ablation
from saetools.cli.evaluate import run_evaluate
from saetools.cli.explore import run_explore
from saetools.cli.find import open_run
from saetools.cli.harvest import run_harvest
from saetools.cli.index import ensure_index, run_index
from saetools.cli.name import run_name
from saetools.cli.options import Device, DryRun, Json, Out, Quiet, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.cli.train import run_train

__all__ = ["RECIPE", "STAGES", "command", "run_all"]

RECIPE = Path(__file__).with_name("demo.yaml")

STAGES: dict[str, Callable[[RunFolder], Outcome]] = {
    "harvest": run_harvest,
    "train": run_train,
    "evaluate": run_evaluate,
    "index": run_index,
    "name": run_name,
    "ablate": run_concept_ablation,
    "explore": run_explore,
}
_N_CONCEPTS = 10


def command(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings that differ from the recipe."),
    ] = None,
    *,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run everything once: find topics in a real text encoder, and remove one.

    Reads all-MiniLM-L6-v2 on the documentation of Python's own standard library, trains a sparse
    autoencoder, measures it, names its latents, switches a concept off, and writes one HTML page
    into runs/demo. Some minutes on a CPU, no network. Stages that are finished are not done again.

    \b
    Examples:
      saetools demo
      saetools demo --out runs/quick train.n_tokens=500000
      saetools demo sae.k=32 --out runs/k32
    """
    view = View(as_json, quiet)
    folder = open_run(RECIPE, overrides, out=out, device=device, seed=seed)
    if dry_run:
        view.show(folder.plan("harvest"))
        return
    with view.progress():
        outcome = run_all(folder)
    view.show(outcome)


def run_all(run: RunFolder) -> Outcome:
    """Run every stage of a run that is not finished with these settings, and sum it up."""
    table: list[dict[str, Any]] = []
    kept: list[str] = []
    started = time.monotonic()
    for name, stage in STAGES.items():
        if run.up_to_date(name):
            kept.append(name)
            note = "kept"
        elif name == "ablate" and not _has_concept(run):
            note = "left out: no label of the corpus has enough documents"
        else:
            note = stage(run).title
        table.append({"stage": name, "seconds": run.seconds(name), "result": note})
    parts = [_concepts(run), _ablation(run)]
    if kept:
        parts.append(f"Kept from an earlier run: {', '.join(kept)} (their seconds are from then).")
    page = run.product("explore")
    return Outcome(
        title=f"{run.config.name}: done in {time.monotonic() - started:.0f} s",
        figures=_figures(run),
        table=table,
        text="\n".join(parts),
        wrote=(run.path,),
        next=f"open {page}",
    )


def _has_concept(run: RunFolder) -> bool:
    return run.config.concept.label is not None or bool(ensure_index(run).labels)


def _figures(run: RunFolder) -> dict[str, Any]:
    """The numbers of a run that stand for the rest, each from held-out documents."""
    from saetools.evaluate import EvaluationReport  # heavy: torch, sklearn

    figures: dict[str, Any] = {}
    with run.store() as store:
        figures |= {"tokens": store.n_tokens, "documents": store.n_docs}
    return figures | EvaluationReport.load(run.product("evaluate")).values


def _concepts(run: RunFolder) -> str:
    """The latents that tell a label best, with their names."""
    from saetools.naming import NamesTable  # heavy: torch, h5py

    names = NamesTable.load(run.product("name"))
    lines = ["Concepts that one latent tells (chosen on training documents, measured on others):"]
    for hit in ensure_index(run).concepts(top=_N_CONCEPTS):
        name = names.get(hit.latent)
        lines.append(
            f"  {hit.label:<16} latent {hit.latent:<5} AUROC {hit.auroc_held_out:.2f} on "
            f"{hit.n_docs_held_out:>3} documents   {name.name if name else ''}"
        )
    return "\n".join(lines)


def _ablation(run: RunFolder) -> str:
    """What switching the concept's latents off did, beside the control, and the verdict."""
    from saetools.evaluate import ConceptAblationReport  # heavy: torch, sklearn

    report = run.load_if_finished("ablate", ConceptAblationReport.load)
    if report is None:
        return "No concept was switched off: no label of the corpus has enough documents."
    final = {(r.condition, r.metric): r.value for r in report.rows if r.place == "final"}
    # The probe trained before is, on clean documents, the fresh probe itself.
    final["clean", "transfer_balanced_accuracy"] = final["clean", "balanced_accuracy"]
    figures = {
        "fresh probe, AUROC": "auroc",
        "probe trained before, bal. acc.": "transfer_balanced_accuracy",
        "accuracy on the other labels": "other_labels_accuracy",
        "cosine to before, its documents": "cosine_concept",
        "cosine to before, the others": "cosine_other",
    }
    lines = [f"Latents of '{report.concept}' switched off, final embedding (held-out documents):"]
    lines.append(f"  {'':<32}{'clean':>10}{'ablated':>10}{'control':>10}")
    for label, metric in figures.items():
        cells = [final.get((condition, metric)) for condition in ("clean", "ablated", "control")]
        shown = [f"{'-' if value is None else f'{value:.3f}':>10}" for value in cells]
        lines.append(f"  {label:<32}{''.join(shown)}")
    return "\n".join([*lines, report.verdict])
