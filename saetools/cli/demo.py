"""`saetools demo`: the whole path on two models, with honest numbers at the end."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from saetools.cli.demo_encoder import ENCODER
from saetools.cli.demo_half import Half, headline, run_stages
from saetools.cli.demo_planted import PLANTED
from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Quiet, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder

__all__ = ["HALVES", "command", "run_halves"]

HALVES: dict[str, Half] = {"encoder": ENCODER, "planted": PLANTED}
_SUFFIXES = {"encoder": "", "planted": "_planted"}
_HEADLINE = (
    "fvu",
    "l0",
    "dead_fraction",
    "embedding_cosine",
    "embedding_cosine_mean",
    "loss_recovered_zero",
    "loss_recovered_mean",
)

Only = Annotated[
    Literal["encoder", "planted"] | None,
    typer.Option("--only", help="One half instead of both."),
]
DemoOut = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Run folder of the first half; that of the second is DIR_planted.",
        metavar="DIR",
    ),
]


def command(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings that differ from the recipes."),
    ] = None,
    *,
    only: Only = None,
    out: DemoOut = Path("runs/demo"),
    device: Device = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run everything once, on a real text encoder and on a language model whose truth is known.

    encoder: reads all-MiniLM-L6-v2 on the documentation of Python's own standard library, finds its
    topics, and switches one off. planted: reads a small language model that ships with the package
    and has read about 200 made-up entities, counts the planted concepts that were found and the
    names that are right, and switches one entity off beside a model that never read of it.

    Each half harvests, trains a sparse autoencoder, measures it, names its latents, and writes one
    HTML page. Some minutes on a CPU, no network. Stages that are finished are not done again.

    \b
    Examples:
      saetools demo
      saetools demo --only planted
      saetools demo --out runs/quick train.n_tokens=500000
    """
    view = View(as_json, quiet)
    halves = HALVES if only is None else {only: HALVES[only]}
    runs = {
        name: open_run(
            half.recipe,
            overrides,
            out=out.with_name(out.name + _SUFFIXES[name]),
            device=device,
            seed=seed,
        )
        for name, half in halves.items()
    }
    if dry_run:
        for run in runs.values():
            view.show(run.plan("harvest"))
        return
    with view.progress():
        outcome = run_halves(runs)
    view.show(outcome)


def run_halves(runs: dict[str, RunFolder]) -> Outcome:
    """Run both halves and sum them up."""
    table: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    parts: list[str] = []
    started = time.monotonic()
    for name, run in runs.items():
        rows = run_stages(run, HALVES[name])
        table += [{"half": name, **row} for row in rows]
        figures |= {f"{name}.{key}": value for key, value in headline(run, _HEADLINE).items()}
        parts.append(HALVES[name].summary(run))
    if any(row["result"] == "kept" for row in table):
        parts.append("The seconds of stages that were kept are from when they ran.")
    pages = " ".join(str(run.product("explore")) for run in runs.values())
    return Outcome(
        title=f"demo: done in {time.monotonic() - started:.0f} s",
        figures=figures,
        table=table,
        text="\n\n".join(parts),
        wrote=tuple(run.path for run in runs.values()),
        next=f"open {pages}",
    )
