"""What is found of one range of latents, as plain columns that a file can hold.

Tables are "stats", "labels", "contexts", "near" (and "parents", "children" of a Matryoshka SAE)
and "units.<kind>"; a column's name is "table/column".
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.analysis.auroc import Pooled, label_test, pool_documents
from saetools.analysis.coactivation import coactivation
from saetools.analysis.codes import CodeLists, Codes, Entries
from saetools.analysis.contexts import HELD_OUT, SPREAD, TOP, ContextTable, choose, windows
from saetools.analysis.tables import latent_stats
from saetools.analysis.token_rows import UNITS, TokenRows
from saetools.analysis.units import unit_masses

__all__ = ["Found", "Settings", "find"]


@dataclass(frozen=True)
class Settings:
    """Which examples to keep: see `index_latents`."""

    n_examples: int
    window: int
    seed: int


@dataclass(frozen=True)
class Found:
    """What all ranges look at.

    Args:
        codes: by row.
        lists: by latent.
        rows: tokens, words, documents.
        fired_train: training tokens on which each latent fires.
        level: Matryoshka level of each latent.
        settings: which examples to keep.
    """

    codes: Codes
    lists: CodeLists
    rows: TokenRows
    fired_train: npt.NDArray[np.int64]
    level: npt.NDArray[np.int8]
    settings: Settings


def find(of: Found, first: int, last: int) -> dict[str, npt.NDArray[Any]]:
    """Everything that an index says of the latents `first` to `last - 1`."""
    rows, entries = of.rows, of.lists.entries(first, last)
    held = rows.is_held_out(entries.row)
    pooled = pool_documents(entries.latent - first, entries.row, entries.value, doc_of_row=rows.doc)
    family = coactivation(
        of.codes,
        entries,
        first,
        last,
        train=~held,
        n_train=rows.n_train,
        fired_train=of.fired_train,
        level=of.level,
    )
    tables = {
        "stats": latent_stats(entries, first, last, held_out=held),
        "contexts": _contexts(pooled, entries, first, last, rows, of.settings),
        "near": family.near,
        **({} if family.parents is None else {"parents": family.parents}),
        **({} if family.children is None else {"children": family.children}),
        **{
            f"units.{kind}": unit_masses(entries, rows.unit(kind, entries.row), held_out=held)
            for kind in UNITS
        },
    }
    found = _labels(pooled, last - first, rows)
    for name, table in tables.items():
        found |= {f"{name}/{column}": values for column, values in _columns(table).items()}
    return found


def _columns(table: Any) -> dict[str, npt.NDArray[Any]]:
    if is_dataclass(table):
        return {field.name: getattr(table, field.name) for field in fields(table)}
    named: dict[str, npt.NDArray[Any]] = table._asdict()
    return named


def _labels(pooled: Pooled, n: int, rows: TokenRows) -> dict[str, npt.NDArray[Any]]:
    train, held = (
        label_test(
            pooled,
            n_latents=n,
            label_of_doc=rows.label_of_doc,
            n_labels=len(rows.labels),
            docs=rows.has_rows & split,
        )
        for split in (~rows.docs.held_out, rows.docs.held_out)
    )
    silent = np.ones(n, dtype=bool)
    silent[pooled.latent[~rows.docs.held_out[pooled.doc]]] = False
    return {
        "labels/auroc_train": train.auroc.astype(np.float32),
        "labels/auroc_held_out": held.auroc.astype(np.float32),
        "labels/p_train": np.where(silent[:, None], np.nan, train.p_value),
    }


def _contexts(
    pooled: Pooled, entries: Entries, first: int, last: int, rows: TokenRows, settings: Settings
) -> ContextTable:
    held = rows.docs.held_out[pooled.doc]
    n, n_examples, seed = last - first, settings.n_examples, settings.seed
    shown, best = choose(
        pooled.take(~held), n_top=n_examples, n_spread=n_examples // 2, n_latents=n, seed=seed,
        first=first,
    )  # fmt: skip
    tested, _ = choose(
        pooled.take(held), n_top=0, n_spread=n_examples, n_latents=n, seed=seed, first=first
    )
    kind = np.r_[np.where(best, TOP, SPREAD), np.full(len(tested.latent), HELD_OUT)]
    both = Pooled(
        *(np.concatenate([getattr(shown, f.name), getattr(tested, f.name)]) for f in fields(Pooled))
    )
    order = np.lexsort((kind, both.latent))  # stable: strongest first within a kind
    chosen = both.take(order)
    chosen = Pooled(chosen.latent + first, chosen.doc, chosen.value, chosen.row)
    return windows(
        chosen,
        kind[order].astype(np.uint8),
        entries=entries,
        window=settings.window,
        doc_spans=rows.spans,
        token=rows.token,
    )
