"""`saetools name`: a name for each latent, with its evidence, into names.csv."""

import json
from typing import Annotated

import typer

from saetools.cli.find import open_run
from saetools.cli.index import ensure_index
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

__all__ = ["command", "run_name"]

_N_SHOWN = 10


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    namer: Annotated[
        str | None, typer.Option("--namer", help="Namer; short for naming.type.", metavar="NAME")
    ] = None,
    latents: Annotated[
        str | None,
        typer.Option("--latents", help="A range or list: 0:2000 or 3,7,12.", metavar="RANGE"),
    ] = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Name the latents by what they fire on.

    Writes index.h5 (firing rates, strongest examples, labels told) unless it is there, and
    names.csv with name, confidence and rationale of each live latent. Names that a person wrote
    into names.csv (namer "manual") are kept.

    \b
    Examples:
      saetools name runs/demo
      saetools name runs/demo --namer top_tokens --latents 0:200
      saetools name runs/demo index.n_examples=20 --json
    """
    view = View(as_json, quiet)
    chosen = [] if namer is None else [f"naming.type={json.dumps(namer)}"]
    folder = open_run(run, [*(overrides or ()), *chosen], out=out, device=device, seed=seed)
    wanted = None if latents is None else _parse(latents)
    with view.progress():
        outcome = folder.plan("name") if dry_run else run_name(folder, latents=wanted)
    view.show(outcome)


def run_name(run: RunFolder, *, latents: range | list[int] | None = None) -> Outcome:
    """Name a run's latents: all live ones, or those given."""
    # heavy: torch
    from saetools.naming import NamesTable, name_latents
    from saetools.naming.base import MANUAL

    index, block, path = ensure_index(run), run.config.naming, run.product("name")
    written = NamesTable.load(path) if path.exists() else NamesTable()
    by_hand = NamesTable(name for name in written if name.namer == MANUAL)
    with run.stage("name"):
        table = name_latents(index, namer=block.type, latents=latents, **block.fields)
        table = table.merge(by_hand)
        table.save(path)
    best = sorted(table, key=lambda row: -row.confidence)[:_N_SHOWN]
    return Outcome(
        title=f"named {len(table):,} latents with {block.type}",
        table=[{"latent": r.latent, "name": r.name, "confidence": r.confidence} for r in best],
        wrote=(run.product("index"), path),
        next=f"saetools explore {run.path}",
    )


def _parse(text: str) -> range | list[int]:
    """`0:2000` as a range, `3,7,12` as a list."""
    try:
        if ":" in text:
            start, stop = text.split(":")
            return range(int(start or 0), int(stop))
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--latents {text} is neither a range such as 0:2000 nor a list such as 3,7,12"
        ) from error
