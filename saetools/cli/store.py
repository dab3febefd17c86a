"""`saetools store`: look into an activation store, check it, and make one of several."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saetools.cli.options import Json, Quiet
from saetools.cli.output import Outcome, View

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.store import ActivationStore

__all__ = ["COMMANDS"]

_STORE_NAME = "acts.h5"
_QUANTILES = (0.5, 0.99)

Store = Annotated[
    Path,
    typer.Argument(metavar="STORE", help="A store, or a run folder that has one (acts.h5)."),
]
Shards = Annotated[
    list[Path],
    typer.Argument(metavar="SHARD...", help="Stores, in the order that their rows will have."),
]
Merged = Annotated[Path, typer.Option("--out", help="Store to write.", metavar="FILE")]


def info(store: Store, as_json: Json = False) -> None:
    """Show what is in a store: where it is from, rows, splits, size, and figures of every hook.

    The precision error is the share of the variance that storing in this precision lost.

    \b
    Examples:
      saetools store info runs/demo
      saetools store info acts.h5 --json
    """
    with _open(store) as opened:
        View(as_json).show(_described(opened))


def verify(store: Store, as_json: Json = False, quiet: Quiet = False) -> None:
    """Read a whole store and check it; exit code 1 if anything is wrong, and its rows are named.

    Checked are layout, the checksum of every block of 4096 rows, that all numbers are finite, the
    order of documents, and that the statistics are those of the rows.

    \b
    Examples:
      saetools store verify runs/demo
    """
    from saetools.store import verify as problems_of  # heavy: torch, h5py

    view = View(as_json, quiet)
    with _open(store) as opened:
        with view.progress():
            wrong = problems_of(opened)
        if not wrong:
            figures = {"tokens": opened.n_tokens, "documents": opened.n_docs}
            view.show(Outcome(f"{opened.path} is sound", figures))
            return
        table = [{"where": p.where, "rows": _spell_rows(p.rows), "problem": p.what} for p in wrong]
        advice = "harvest it again, or put a copy of the file back"
        title = f"{opened.path} is damaged: {len(wrong):,} problems"
        View(as_json).show(Outcome(title, table=table, text=advice))
    raise typer.Exit(1)


def merge(shards: Shards, out: Merged, as_json: Json = False, quiet: Quiet = False) -> None:
    """Make one store of several without copying their activations.

    The shards must be of one model, harvested with the same settings; their documents are
    numbered on. They are found by their path relative to the new store: move them together.

    \b
    Examples:
      saetools store merge shards/a.h5 shards/b.h5 --out acts.h5
    """
    from saetools.store import merge as merged  # heavy: torch, h5py

    with merged([_file(shard) for shard in shards], out=out) as store:
        figures = {"tokens": store.n_tokens, "documents": store.n_docs}
        title = f"merged {len(store.shards)} stores, which stay where they are"
        outcome = Outcome(title, figures, wrote=(out,), next=f"saetools store verify {out}")
        View(as_json, quiet).show(outcome)


COMMANDS: dict[str, Callable[..., None]] = {"info": info, "verify": verify, "merge": merge}


def _file(path: Path) -> Path:
    return path / _STORE_NAME if path.is_dir() else path


def _open(path: Path) -> "ActivationStore":
    from saetools.store import ActivationStore  # heavy: torch, h5py

    return ActivationStore.open(_file(path), allow_incomplete=True)


def _described(store: "ActivationStore") -> Outcome:
    manifest = store.manifest
    model, corpus = manifest.get("model", {}), manifest.get("corpus", {})
    files = [store.path, *(shard.path for shard in store.shards)]
    figures = {
        "model": model.get("name"),
        "corpus": corpus.get("name"),
        "tokens": store.n_tokens,
        "training": store.n_rows("train"),
        "held out": store.n_rows("held_out"),
        "documents": store.n_docs,
        "dtype": store.dtype,
        "filter": manifest.get("filter"),
        "shards": len(store.shards) or None,
        "bytes": sum(path.stat().st_size for path in files),
        "complete": store.complete,
    }
    table = [_hook_figures(store, hook) for hook in store.hook_names]
    text = "" if store.complete else "the harvest did not finish; run it again to go on with it"
    following = f"saetools store verify {store.path}"
    return Outcome(str(store.path), figures, table=table, text=text, next=following)


def _hook_figures(store: "ActivationStore", hook: str) -> dict[str, Any]:
    moments = store.moments(hook)
    counted = bool(moments.norms[2:].sum())
    quantiles = {f"norm {q:.0%}": moments.norm_quantile(q) if counted else None for q in _QUANTILES}
    return {
        "hook": hook,
        "d_in": store.width(hook),
        "rms": (moments.mean_sq_norm / store.width(hook)) ** 0.5,
        "largest |mean|": float(abs(moments.mean).max()),
        **quantiles,
        "norm max": float(moments.norms[1]) if counted else None,
        "precision error": moments.precision_error if counted else None,
    }


def _spell_rows(rows: tuple[int, int] | None) -> str | None:
    return f"{rows[0]:,} to {rows[1] - 1:,}" if rows else None
