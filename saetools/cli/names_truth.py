"""`saetools testbed names`: how many names of each namer are right, where the truth is known."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from saetools.cli.find import open_run
from saetools.cli.index import ensure_index
from saetools.cli.name import cache_of, with_parts
from saetools.cli.options import DryRun, Json, Overrides, Quiet, Run
from saetools.cli.output import Outcome, View
from saetools.cli.planted import truth_of
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.analysis import LatentIndex
    from saetools.naming import Name, NamesTable
    from saetools.testbed.latent_truth import LatentTruth
    from saetools.testbed.name_share import NameShare

__all__ = ["command", "run_names"]

_FORMAT = "saetools-name-truth/1"
_WRITTEN = "names.csv"
_SHOWN = {
    "n_live": "live latents",
    "n_planted": "stand for a planted label with a word",
    "n_planted_without_word": "for one without (form, mood, ...)",
    "n_word": "for a plain word",
    "n_unknown": "for nothing known",
    "n_unknown_rare": "of these, fire on fewer than 20 training tokens",
}
_N_FIRST = 3  # words of a name that are looked at


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    namer: Annotated[
        str | None,
        typer.Option(
            "--namer",
            help="Namers to compare, e.g. top_tokens,vocabulary. All that need no settings by "
            "default.",
            metavar="NAME[,NAME]",
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Name the latents with each namer, and count the names that are right.

    Which concept of the planted world a latent stands for is found from its firing alone: the label
    with the best F1 on training documents, if held-out ones confirm it (F1 0.5, AUROC 0.9). A name
    is right if it says that label's word. Beside it: the name of another latent of the same sort,
    which is what chance gives. Latents that stand for no planted label, but for one plain word, are
    counted apart; names of latents that stand for nothing known are counted too, and not judged.

    Writes name_truth.json. The names in names.csv are judged as well, and stay as they are.

    \b
    Examples:
      saetools testbed names runs/demo_planted
      saetools testbed names runs/demo_planted --namer top_tokens,vocabulary --json
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides)
    asked = None if namer is None else [name.strip() for name in namer.split(",") if name.strip()]
    with view.progress():
        outcome = folder.plan("names_truth") if dry_run else run_names(folder, namers=asked)
    view.show(outcome)


def run_names(run: RunFolder, *, namers: list[str] | None = None) -> Outcome:
    """Compare namers on a run of the planted world.

    Raises:
        ConfigError: the run reads other texts, or a namer that was asked for cannot name.
    """
    # heavy: torch
    from saetools.naming import NAMERS, NamesTable
    from saetools.repro import write_json
    from saetools.testbed.latent_truth import latent_truths, with_words
    from saetools.testbed.name_share import name_share

    index, path = ensure_index(run), run.product("names_truth")
    written = run.load_if_finished("name", NamesTable.load)
    with run.stage("names_truth"), run.store() as store:
        truth = with_words(truth_of(run, store), store, run.model.tokenizer)
        truths = latent_truths(run.sae(), store, truth)
        tables, skipped = _named(run, index, namers or NAMERS.names(), strict=namers is not None)
        if written is not None:
            tables[_WRITTEN] = written
        judged = {
            namer: _Judged(
                len(table),
                sum(name.latent not in truths for name in table),
                name_share({name.latent: _said(name) for name in table}, truths),
            )
            for namer, table in tables.items()
        }
        counts = _counts(index, truths)
        content = {
            "format": _FORMAT,
            "latents": counts,
            "truths": [truth._asdict() for truth in truths.values()],
            "namers": {namer: found.as_json() for namer, found in judged.items()},
            "skipped": skipped,
        }
        write_json(path, content)
    return Outcome(
        title=f"compared the names of {', '.join(tables)} with the truth",
        figures={_SHOWN[key]: n for key, n in counts.items()},
        table=[_row(namer, found) for namer, found in judged.items()],
        text="\n".join(f"{namer} was left out: {why}" for namer, why in skipped.items()),
        wrote=(path,),
    )


class _Judged(NamedTuple):
    """A namer's names: how many, how many of latents without a truth, and shares of the others."""

    n_named: int
    n_unjudged: int
    shares: "dict[str, NameShare]"

    def as_json(self) -> dict[str, Any]:
        found = {sort: share.as_json() for sort, share in self.shares.items()}
        return {"n_named": self.n_named, "n_named_without_truth": self.n_unjudged, **found}


def _counts(index: "LatentIndex", truths: "Mapping[int, LatentTruth]") -> dict[str, int]:
    from saetools.testbed.latent_truth import MIN_TRAIN, WORD  # heavy: torch
    from saetools.testbed.name_share import SAYABLE

    layers = [truth.layer for truth in truths.values()]
    unknown = [latent for latent in index.live.tolist() if latent not in truths]
    fired = index.stats.n_fired_train
    return {
        "n_live": len(index.live),
        "n_planted": sum(layer in SAYABLE for layer in layers),
        "n_planted_without_word": sum(layer not in (*SAYABLE, WORD) for layer in layers),
        "n_word": layers.count(WORD),
        "n_unknown": len(unknown),
        "n_unknown_rare": sum(int(fired[latent]) < MIN_TRAIN for latent in unknown),
    }


def _named(
    run: RunFolder, index: "LatentIndex", namers: list[str], *, strict: bool
) -> "tuple[dict[str, NamesTable], dict[str, str]]":
    """Names by namer with its default settings, and why others could not."""
    # heavy: torch
    from saetools.naming import name_latents
    from saetools.naming.run import parts_needed

    tables: dict[str, NamesTable] = {}
    skipped: dict[str, str] = {}
    for namer in namers:
        try:
            with with_parts(run, parts_needed(namer, {})) as parts:
                tables[namer] = name_latents(index, namer=namer, cache=cache_of(run), **parts)
        except ConfigError as error:
            if strict:
                raise
            skipped[namer] = str(error)
    return tables, skipped


def _said(name: "Name") -> list[str]:
    """What a name says: its first words and promoted tokens, its label; else its text's words."""
    label = [] if name.label is None else [name.label]
    said = [*name.words[:_N_FIRST], *name.promotes[:_N_FIRST], *label]
    return said or re.findall(r"\w+", name.name)


def _row(namer: str, judged: _Judged) -> dict[str, Any]:
    row: dict[str, Any] = {"namer": namer, "named": judged.n_named}
    for sort, share in judged.shares.items():
        spelled = share.as_json()
        row[f"{sort}: right"] = f"{share.n_right} of {share.n}, {_spell(spelled['right_fraction'])}"
        row[f"{sort}: of named"] = _spell(spelled["right_of_named"])
        row[f"{sort}: swapped"] = _spell(spelled["swapped_of_named"])
    row["not judged"] = judged.n_unjudged
    return row


def _spell(share: dict[str, float | None]) -> str:
    if share["value"] is None:
        return "-"
    return f"{share['value']:.0%} ({share['low']:.0%}-{share['high']:.0%})"
