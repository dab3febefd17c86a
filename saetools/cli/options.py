"""Arguments and flags that commands share; a setting of the run is KEY=VALUE, never a flag."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Device", "DryRun", "Json", "Out", "Overrides", "Quiet", "Resume", "Run", "Seed"]

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A YAML file, a run folder, or a folder inside one (e.g. runs/demo/sae).",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings that differ from the file, e.g. sae.k=64 train.lr=1e-3.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Run folder, instead of the config's.", metavar="DIR"),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1, mps or auto.", metavar="NAME"),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of every random act in the run.", metavar="N"),
]
Resume = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Continue work that was stopped, or start it over."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything, say what would be done, write nothing."),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Result as one JSON object, progress as JSON lines on stderr."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing unless it fails.")]
