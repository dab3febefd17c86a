"""Join what was found of ranges of latents to one index."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from saetools.analysis.auroc import adjusted
from saetools.analysis.columns import get
from saetools.analysis.contexts import ContextTable
from saetools.analysis.index import LatentIndex
from saetools.analysis.logit_lens import LogitTable, logit_table
from saetools.analysis.neighbours import Neighbours, nearest_latents
from saetools.analysis.part import Found
from saetools.analysis.postings import DocTokens, TurnedLists
from saetools.analysis.tables import LabelTable, LatentStats
from saetools.analysis.token_rows import UNITS, TokenRows
from saetools.analysis.units import UnitMass, UnitTable, join_masses
from saetools.analysis.work import WorkFolder
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["join"]


def join(
    pieces: Sequence[Path],
    found: Found,
    *,
    work: WorkFolder,
    sae: SAE,
    model: SubjectModel,
    hook_name: str,
    widths: list[int],
    source: Mapping[str, Any],
) -> LatentIndex:
    """The index of all ranges of latents.

    Args:
        pieces: their files, in order.
        found: what all of them looked at.
        work: where what remains to be done is kept.
        sae, model, hook_name: what was indexed.
        widths: prefix sizes of a Matryoshka SAE, else empty.
        source: what the index is made from.
    """
    rows, stats = found.rows, LatentStats(**_joined(pieces, "stats"))
    family = {
        name: Neighbours(**_joined(pieces, name)) if name == "near" or widths else None
        for name in ("near", "parents", "children")
    }
    assert family["near"] is not None
    near = work.load(
        "decoder", lambda: vars(nearest_latents(sae.W_dec, live=np.flatnonzero(stats.n_fired)))
    )
    return LatentIndex(
        hook_name=hook_name,
        n_tokens=len(rows.token),
        n_tokens_train=rows.n_train,
        window=found.settings.window,
        source=source,
        stats=stats,
        label_table=_label_table(pieces, rows),
        contexts=ContextTable(**_joined(pieces, "contexts")),
        token_texts=rows.texts,
        docs=rows.docs,
        units={kind: _unit_table(kind, pieces, rows, found.codes.n_latents) for kind in UNITS},
        decoder_neighbours=Neighbours(**near),
        coactivation=family["near"],
        parents=family["parents"],
        children=family["children"],
        level=found.level,
        widths=widths,
        logits=_logits(work, sae, model, hook_name),
        lists=TurnedLists(found.lists, stats.max_act),
        doc_tokens=DocTokens(np.r_[0, rows.spans[:, 1]], rows.token),
    )


def _joined(pieces: Sequence[Path], table: str) -> dict[str, npt.NDArray[Any]]:
    """The columns of one table, over all latents."""
    parts = []
    for path in pieces:
        with h5py.File(path, "r") as file:
            parts.append({name: get(column) for name, column in file[table].items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _label_table(pieces: Sequence[Path], rows: TokenRows) -> LabelTable:
    found = _joined(pieces, "labels")
    n_docs = [
        np.bincount(of[of >= 0], minlength=len(rows.labels))
        for of in (rows.label_of_doc[~rows.docs.held_out], rows.label_of_doc[rows.docs.held_out])
    ]
    return LabelTable(
        names=rows.labels,
        n_docs_train=n_docs[0],
        n_docs_held_out=n_docs[1],
        auroc_train=found["auroc_train"],
        auroc_held_out=found["auroc_held_out"],
        q_train=adjusted(found["p_train"]).astype(np.float32),
    )


def _unit_table(kind: str, pieces: Sequence[Path], rows: TokenRows, n_latents: int) -> UnitTable:
    return join_masses(
        UnitMass(**_joined(pieces, f"units.{kind}")),
        n_latents=n_latents,
        train_units=rows.train_units(kind),
        spell=lambda unit: rows.spell(kind, unit),
    )


def _logits(work: WorkFolder, sae: SAE, model: SubjectModel, hook_name: str) -> LogitTable | None:
    def made() -> Mapping[str, Any]:
        table = logit_table(model, sae.W_dec, hook_name=sae.target_hook_name or hook_name)
        return {} if table is None else vars(table)

    found = work.load("logits", made)
    return LogitTable(**found) if found else None
