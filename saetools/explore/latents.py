"""The latents of an index as columns for the page: figures, names, best labels, concepts."""

from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.analysis import LatentIndex
from saetools.errors import ShapeError
from saetools.explore.bundle import NONE_16, NONE_32
from saetools.naming import NamesTable

__all__ = [
    "N_BEST_LABELS",
    "concept_rows",
    "figure_columns",
    "label_columns",
    "name_columns",
    "neighbour_columns",
]

N_BEST_LABELS = 3
_TELLING = 0.6
_MAX_CONCEPTS = 40

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
    """Names, rationales and namers for the head; confidence and held-out precision, NaN if none."""
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
    return head, {"confidence": confidence, "precision": precision}


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


def neighbour_columns(index: LatentIndex, n: int) -> dict[str, Array]:
    """The `n` nearest latents of each by the decoder: ids, and cosines in hundredths."""
    near = index.decoder_neighbours
    ids = np.full((index.n_latents, n), NONE_32, dtype=np.uint32)
    cosines = np.zeros((index.n_latents, n), dtype=np.int8)
    m = min(n, near.ids.shape[1])
    ids[:, :m] = np.where(near.ids[:, :m] < 0, NONE_32, near.ids[:, :m])
    cosines[:, :m] = np.round(near.scores[:, :m] * 100)
    return {"neighbour_ids": ids.ravel(), "neighbour_cosines": cosines.ravel()}
