"""The latents of an index as columns for the page: figures, names, best labels, concepts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.analysis import LatentIndex
from saetools.errors import ShapeError
from saetools.explore.bundle import NONE_16
from saetools.naming import NamesTable

__all__ = [
    "N_BEST_LABELS",
    "concept_rows",
    "figure_columns",
    "label_columns",
    "name_columns",
    "score_columns",
]

N_BEST_LABELS = 3
_TELLING = 0.6
_MAX_CONCEPTS = 40
_NOTES = {
    "Held-out precision": "share of its held-out activation on the words of the name",
    "predicate": "balanced accuracy of the name on held-out contexts; chance is 0.5",
    "observational": "F1 of the name over all held-out words; chance is near 0",
    "detection": "balanced accuracy of a judge who knows the name; chance is 0.5",
    "fuzzing": "balanced accuracy of a judge on marked tokens; chance is 0.5",
    "simulation": "correlation of a judge's guesses with its activation; chance is 0",
    "intervention": "share of matched latents that move the output less as the name says",
}

Array = npt.NDArray[Any]


def figure_columns(index: LatentIndex) -> dict[str, Array]:
    """Firing rate, mean and largest activation (n_latents,), histograms (n_latents · n_bins,)."""
    return {
        "rate": index.firing_rate.astype(np.float32),
        "mean_act": index.mean_act.astype(np.float32),
        "max_act": index.max_act.astype(np.float32),
        "act_counts": index.histogram.astype(np.uint32).ravel(),
    }


def name_columns(
    names: NamesTable | None, n_latents: int
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Names, rationales and namers for the head, and what the table itself says of each name."""
    confidence, precision = np.full((2, n_latents), np.nan, dtype=np.float32)
    texts: list[str | None] = [None] * n_latents
    rationales: dict[str, str] = {}
    namers: dict[str, str] = {}
    for name in names or ():
        if name.latent >= n_latents:
            raise ShapeError(
                f"the names are for another SAE: they name latent {name.latent}, and the index has "
                f"the latents 0 to {n_latents - 1}; give the names of this index"
            )
        texts[name.latent] = name.name
        confidence[name.latent] = name.confidence
        precision[name.latent] = name.held_out_precision
        namers[str(name.latent)] = name.namer
        if name.rationale:
            rationales[str(name.latent)] = name.rationale
    head = {"names": texts, "rationales": rationales, "namers": namers}
    return head, {"Held-out precision": precision, "Confidence": confidence}


def score_columns(
    scores: Mapping[str, Array] | None, of_names: Mapping[str, Array], n_latents: int
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Scores as columns: the caller's first, then those of the names; all NaN is no column.

    Returns what the head lists of them, best known first, and float32 arrays score_0, score_1 ...

    Raises:
        ShapeError: a column has another length than there are latents.
    """
    listed: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for name, values in {**(scores or {}), **of_names}.items():
        column = np.asarray(values, dtype=np.float32)
        if column.shape != (n_latents,):
            raise ShapeError(
                f"the score {name!r} has shape {column.shape}; explore takes one number for each "
                f"of the {n_latents} latents, NaN where there is none"
            )
        if np.isfinite(column).any():
            key = f"score_{len(listed)}"
            about = name in of_names or scores is not None
            listed.append(
                {"name": name, "array": key, "note": _NOTES.get(name), "about_name": about}
            )
            arrays[key] = column
    return listed, arrays


def label_columns(index: LatentIndex) -> dict[str, Array]:
    """Up to three labels a latent, best first, chosen and ordered by AUROC on training documents.

    A label counts when that AUROC reaches 0.6; nearer to chance it says nothing of the latent.
    """
    shape = (index.n_latents, N_BEST_LABELS)
    ids = np.full(shape, NONE_16, dtype=np.uint16)
    train, held_out = np.full((2, *shape), np.nan, dtype=np.float32)
    scores = np.nan_to_num(index.auroc_train, nan=-1.0)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :N_BEST_LABELS]  # (n_latents, n_best)
    found = order.shape[1]
    train[:, :found] = np.take_along_axis(scores, order, axis=1)
    held_out[:, :found] = np.take_along_axis(index.auroc_held_out, order, axis=1)
    ids[:, :found] = order
    ids[~(train >= _TELLING)] = NONE_16
    return {
        "label_ids": ids.ravel(),
        "label_train": train.ravel(),
        "label_held_out": held_out.ravel(),
    }


def concept_rows(index: LatentIndex) -> list[dict[str, Any]]:
    """The latent that tells each label best, the label told best on training documents first."""
    return [
        {
            "label": hit.label,
            "latent": hit.latent,
            "train": hit.auroc_train,
            "held_out": hit.auroc_held_out,
            "n_train": hit.n_docs_train,
            "n_held_out": hit.n_docs_held_out,
        }
        for hit in index.concepts(top=_MAX_CONCEPTS)
    ]
