"""`saetools bench`: which kernels there are, what runs them here, and how fast they were found."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from saetools.cli.options import Json
from saetools.cli.output import Outcome, View
from saetools.errors import SaetoolsError

__all__ = ["command"]

_COLUMNS = ("op", "provider", "n", "d", "n_latents", "k", "dtype", "median_ms", "of_product")

Run = Annotated[
    bool, typer.Option("--run", help="Measure now, on this machine; takes minutes and memory.")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="With --run: this operation; may be repeated.", metavar="OP"),
]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", help="With --run: sizes to measure at.", metavar="N,D,N_LATENTS,K"),
]
ResultFile = Annotated[
    Path | None,
    typer.Option("--out", help="With --run: CSV file to add the rows to.", metavar="FILE"),
]


def command(
    run: Run = False,
    only: Only = None,
    shape: Shape = None,
    out: ResultFile = None,
    as_json: Json = False,
) -> None:
    """Show the kernels, whether they run here, and the recorded measurements; or measure.

    Recorded rows ship with a source checkout, one file a device. With --run the benchmark compares
    plain PyTorch, torch.compile and saetools on the same inputs, after checking that they agree.

    \b
    Examples:
      saetools bench
      saetools bench --run --only topk_rows --shape 4096,512,8192,32
    """
    if run:
        raise typer.Exit(_measure(only or (), shape or (), out))
    from saetools.sae.ops import kernel_results, kernel_status  # heavy: torch

    results = kernel_results()
    devices = sorted({row.get("device", "unknown") for row in results})
    figures: dict[str, Any] = {
        status.op: f"{status.implementation} ({status.reason})" for status in kernel_status()
    }
    figures["recorded devices"] = ", ".join(devices) or "none: nothing was measured on a GPU yet"
    table = [
        {"device": row.get("device"), **{name: row.get(name) for name in _COLUMNS}}
        for row in results
    ]
    outcome = Outcome(
        "kernels", figures, table=table, next="" if results else "saetools bench --run"
    )
    View(as_json).show(outcome)


def _measure(only: Sequence[str], shapes: Sequence[str], out: Path | None) -> int:
    """Run the benchmark in a process of its own; it prints as it goes."""
    from saetools.sae.ops import kernel_bench_folder  # heavy: torch

    folder = kernel_bench_folder()
    if folder is None:
        raise SaetoolsError(
            "the benchmark is not part of an installed package: --run needs saetools from a source "
            "checkout. Clone the repository and run the command there."
        )
    arguments = [part for op in only for part in ("--only", op)]
    arguments += [part for text in shapes for part in ("--shape", text)]
    arguments += ["--out", str(out.absolute())] if out else []
    done = subprocess.run([sys.executable, "-m", "bench.run", *arguments], cwd=folder)
    return done.returncode
