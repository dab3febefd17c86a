"""`saetools compare`: trained SAEs side by side on one page."""

from pathlib import Path
from typing import Annotated

import typer

from saetools.cli.options import Json, Quiet
from saetools.cli.output import Outcome, View

__all__ = ["command"]

Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...",
        help="Run folders; a folder of run folders stands for all in it.",
        show_default=False,
    ),
]
PageOut = Annotated[
    Path,
    typer.Option("--out", help="The page; the same as JSON is written beside it.", metavar="FILE"),
]


def command(
    runs: Runs,
    *,
    out: PageOut = Path("compare.html"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare trained SAEs: FVU against L0, a table, and the training curves, on one page.

    The page needs no network and no server; open it in a browser. Figures come from `saetools
    evaluate` if every run was evaluated, else from the health report that training ends with.

    \b
    Examples:
      saetools compare runs/k16 runs/k32 runs/k64
      saetools compare runs/sweep --out sweep.html
    """
    from saetools.explore import compare  # heavy: torch, sklearn

    page = compare(runs, out=out)
    shown = ("name", "architecture", "n_latents", "k", "seed", "fvu", "l0", "dead_fraction")
    table = [
        {**{name: run[name] for name in shown}, "frontier": run["frontier"]} for run in page.runs
    ]
    View(as_json, quiet).show(
        Outcome(
            f"compared {len(page.runs)} run{'' if len(page.runs) == 1 else 's'}",
            table=table,
            text="\n".join((*page.agreements, *page.notes)),
            wrote=(out, out.with_suffix(".json")),
            next=f"open {out}",
        )
    )
