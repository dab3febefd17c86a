"""`saetools name`: a name for each latent, with its evidence, into names.csv."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saetools.cli.find import open_run
from saetools.cli.index import ensure_index
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.naming import NamesTable
    from saetools.naming.base import Part

__all__ = ["cache_of", "command", "parse_latents", "run_name", "with_parts"]

_FIRST_OF, _MANUAL = "first_of", "manual"
_N_SHOWN = 10


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    namer: Annotated[
        str | None,
        typer.Option(
            "--namer",
            help="Namer, or several in order of trust: labels,top_tokens. Short for naming.type.",
            metavar="NAME[,NAME]",
        ),
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
    """Name the latents: what each fires on, writes, points at, or tells.

    Writes index.h5 (firing rates, strongest examples, labels told) unless it is there, and
    names.csv with name, confidence and rationale of each live latent. Names that a person wrote
    into names.csv (namer "manual") are kept, whatever the namer.

    \b
    Namers (settings of each are naming.KEY=VALUE; docs/naming.md says when to use which):
      top_tokens   the words that its activation falls on; needs nothing
      labels       the document label that it tells
      logit_lens   the next tokens that it makes likelier; language models
      vocabulary   the word whose direction is nearest to its own; runs the model
      llm          what a language model makes of its contexts: naming.llm=NAME with
                   naming.base_url=http://localhost:8000/v1, or naming.llm=DIRECTORY;
                   --dry-run prints the prompts and an estimate, naming.max_requests is a limit
      manual       a CSV that you edited: naming.path=mine.csv; merged into names.csv
      first_of     several in order, which is what --namer a,b is short for

    \b
    Examples:
      saetools name runs/demo
      saetools name runs/demo --namer labels,top_tokens
      saetools name runs/demo --namer top_tokens --latents 0:200
      saetools name runs/demo --namer llm naming.llm=models/my-instruct --dry-run
      saetools name runs/demo --namer manual naming.path=mine.csv
      saetools name runs/demo index.n_examples=20 --json
    """
    view = View(as_json, quiet)
    chosen = _chosen(run, namer)
    folder = open_run(run, [*chosen, *(overrides or ())], out=out, device=device, seed=seed)
    wanted = None if latents is None else parse_latents(latents)
    with view.progress():
        outcome = _plan(folder, wanted) if dry_run else run_name(folder, latents=wanted)
    view.show(outcome)


def run_name(run: RunFolder, *, latents: range | list[int] | None = None) -> Outcome:
    """Name a run's latents: all live ones, or those given."""
    # heavy: torch
    from saetools.naming import name_latents
    from saetools.naming.run import parts_needed

    index, block, path = ensure_index(run), run.config.naming, run.product("name")
    held = _held(run, path)
    with run.stage("name"), with_parts(run, parts_needed(block.type, block.fields)) as parts:
        found = name_latents(
            index,
            namer=block.type,
            latents=latents,
            cache=cache_of(run),
            **parts,
            **block.fields,
        )
        table = held.merge(found) if block.type == _MANUAL else found.merge(held)
        table.save(path)
    best = sorted(table, key=lambda row: -row.confidence)[:_N_SHOWN]
    return Outcome(
        title=f"named {len(found):,} latents with {block.type}",
        figures={} if block.type != _FIRST_OF else _by_namer(found),
        table=[{"latent": r.latent, "name": r.name, "confidence": r.confidence} for r in best],
        wrote=(run.product("index"), path),
        next=f"saetools explore {run.path}",
    )


def cache_of(run: RunFolder) -> Path:
    """Where a run's namers keep answers and word vectors."""
    return run.path / "naming_cache"


@contextmanager
def with_parts(run: RunFolder, needed: "Sequence[Part]") -> Iterator[dict[str, Any]]:
    """The parts of a run that a namer needs, by name; a store among them is closed at the end."""
    with ExitStack() as stack:
        parts: dict[str, Any] = {}
        if "sae" in needed:
            parts["sae"] = run.sae()
        if "model" in needed:
            parts["model"] = run.model
        if "store" in needed:
            parts["store"] = stack.enter_context(run.store())
        yield parts


def _chosen(run: str, namer: str | None) -> list[str]:
    """The overrides that `--namer` is short for; another namer starts with its own settings."""
    names = [] if namer is None else [name.strip() for name in namer.split(",") if name.strip()]
    if len(names) > 1:
        return [f"naming={json.dumps({'type': _FIRST_OF, 'namers': names})}"]
    if not names or open_run(run).config.naming.type == names[0]:
        return []
    return [f"naming={json.dumps({'type': names[0]})}"]


def _plan(run: RunFolder, latents: range | list[int] | None) -> Outcome:
    """What naming would do; for a namer that asks somebody, what it would ask."""
    from saetools.naming import preview_names  # heavy: torch

    outcome, block = run.plan("name"), run.config.naming
    if not run.up_to_date("index"):
        return outcome
    text = preview_names(
        run.index(), namer=block.type, latents=latents, cache=cache_of(run), **block.fields
    )
    return replace(outcome, text=text)


def _held(run: RunFolder, path: Path) -> "NamesTable":
    """Names that stay: those of a person, and where only a person's are added, all the others."""
    # heavy: torch
    from saetools.naming import NamesTable
    from saetools.naming.base import MANUAL

    written = NamesTable.load(path) if path.exists() else NamesTable()
    if run.config.naming.type == MANUAL and run.finished("name"):
        return written
    return NamesTable(name for name in written if name.namer == MANUAL)


def _by_namer(names: "NamesTable") -> dict[str, int]:
    return dict(Counter(name.namer for name in names).most_common())


def parse_latents(text: str) -> range | list[int]:
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
