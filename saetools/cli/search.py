"""`saetools search`: latents by name, word, label, text or kinship, from the index of a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saetools.cli.find import open_run
from saetools.cli.index import ensure_index
from saetools.cli.options import Device, Json, Quiet, Run
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.analysis import LatentIndex, Neighbours
    from saetools.naming import NamesTable

__all__ = ["command", "run_search"]

_SHOWN = 3  # latents of each token of a prompt

Row = dict[str, Any]


def command(
    run: Run,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="Words of a name, words fired on, or a label.", show_default=False
        ),
    ] = None,
    *,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help="Strongest latents of each token of this text."),
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", help="Latents that fire on this word.", metavar="WORD")
    ] = None,
    unit: Annotated[
        str,
        typer.Option("--unit", help="With --token: word, previous (they fire after it), next."),
    ] = "word",
    label: Annotated[
        str | None, typer.Option("--label", help="Latents that tell this label.")
    ] = None,
    near: Annotated[
        int | None, typer.Option("--near", help="Relatives of this latent.", metavar="LATENT")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Hits shown.")] = 10,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find latents: by name, by word, by label, by a text they fire on, or by their relatives.

    TEXT is sought in names and rationales (names.csv, if there is one; each word may be the
    beginning of a longer one), and among the words that latents fire on and labels. Give TEXT or
    one of --prompt, --token, --label, --near. The index is made if it is missing.

    \b
    Examples:
      saetools search runs/demo "decimal context"
      saetools search runs/demo --token turtle
      saetools search runs/demo --token new --unit previous
      saetools search runs/demo --label turtle --top 5
      saetools search runs/demo --prompt "The turtle draws a line"
      saetools search runs/demo --near 52 --json
    """
    view = View(as_json, quiet)
    asked = {"text": text, "prompt": prompt, "token": token, "label": label, "near": near}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            f"saetools search takes TEXT or one of --prompt, --token, --label and --near; got "
            f"{', '.join(given) or 'none of them'}"
        )
    folder = open_run(run, device=device)
    with view.progress():
        outcome = run_search(folder, by=given[0], value=asked[given[0]], unit=unit, top=top)
    view.show(outcome)


def run_search(
    run: RunFolder, *, by: str, value: Any, unit: str = "word", top: int = 10
) -> Outcome:
    """Look for latents in a run's index."""
    from saetools.naming import NamesTable  # heavy: torch

    index = ensure_index(run)
    names = run.load_if_finished("name", NamesTable.load) or NamesTable()
    searches: dict[str, Callable[[], list[Row]]] = {
        "text": lambda: _by_text(index, names, value, top),
        "prompt": lambda: _by_prompt(run, index, value),
        "token": lambda: [
            {"latent": hit.latent, "share": hit.score, "because": hit.reason}
            for hit in index.on_word(value, unit=unit, top=top)
        ],
        "label": lambda: _by_label(index, value, top),
        "near": lambda: _relatives(index, value, top),
    }
    rows = [_named(row, names) for row in searches[by]()]
    said = f"no latents for {value!r}" if not rows else f"latents for {value!r}"
    following = f"saetools search {run.path} --near {rows[0]['latent']}" if rows else ""
    return Outcome(said, table=rows, next=following)


def _named(row: Row, names: "NamesTable") -> Row:
    """The row with the latent's name after its number."""
    name = names.get(row["latent"])
    return {"latent": row["latent"], "name": None if name is None else name.name, **row}


def _by_text(index: "LatentIndex", names: "NamesTable", text: str, top: int) -> list[Row]:
    from saetools.naming import NameSearch  # heavy: torch

    rows: dict[int, Row] = {}
    for hit in NameSearch(names).find(text, top=top):
        rows[hit.latent] = {"latent": hit.latent, "score": hit.score, "because": "its name"}
    for other in index.search(text, top=top):
        rows.setdefault(
            other.latent, {"latent": other.latent, "score": other.score, "because": other.reason}
        )
    return list(rows.values())[: 2 * top]


def _by_prompt(run: RunFolder, index: "LatentIndex", text: str) -> list[Row]:
    """The strongest latents of each token, a row each."""
    reading = index.fires_on(run.model, run.sae(), text)
    return [
        {"latent": latent, "place": place, "token": token, "activation": act}
        for place, (token, found) in enumerate(zip(reading.tokens, reading.latents, strict=True))
        for latent, act in found[:_SHOWN]
    ]


def _by_label(index: "LatentIndex", label: str, top: int) -> list[Row]:
    best = index.best_latents(label, top=top).tolist()
    column = index.labels.index(label)
    return [
        {
            "latent": latent,
            "AUROC, training": float(index.auroc_train[latent, column]),
            "held out": float(index.auroc_held_out[latent, column]),
            "q": float(index.label_table.q_train[latent, column]),
        }
        for latent in best
    ]


def _relatives(index: "LatentIndex", latent: int, top: int) -> list[Row]:
    index[latent]  # says so if there is none
    kinds: dict[str, Neighbours | None] = {
        "decoder cosine": index.decoder_neighbours,
        "fires with it (phi)": index.coactivation,
        "parent (share)": index.parents,
        "child (share)": index.children,
    }
    return [
        {"latent": other, "relation": kind, "score": score}
        for kind, table in kinds.items()
        if table is not None
        for other, score in table.of(latent)[:top]
    ]
