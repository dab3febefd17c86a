"""The plain tables that an index is made of."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64, Int64

from saetools.analysis.codes import Entries

__all__ = ["DocTable", "LabelTable", "LatentStats", "latent_stats"]

N_BINS = 20


@dataclass(frozen=True)
class LatentStats:
    """Figures of each latent, one row a latent.

    Args:
        n_fired: tokens on which it fires, of all tokens.
        n_fired_train: the same, of training documents.
        mass_train, mass_held_out: its activation summed over training and held-out tokens.
        max_act: largest activation; 0 for a dead latent.
        histogram: active tokens in 20 bins of equal width from 0 to max_act.
    """

    n_fired: Int64[np.ndarray, " n_latents"]
    n_fired_train: Int64[np.ndarray, " n_latents"]
    mass_train: Float64[np.ndarray, " n_latents"]
    mass_held_out: Float64[np.ndarray, " n_latents"]
    max_act: Float32[np.ndarray, " n_latents"]
    histogram: Int64[np.ndarray, "n_latents n_bins"]


@dataclass(frozen=True)
class LabelTable:
    """How well each latent tells each label, on training and on held-out documents.

    Args:
        names: the labels that have enough documents in both.
        n_docs_train, n_docs_held_out: documents of each label.
        auroc_train, auroc_held_out: chance is 0.5, higher is better.
        q_train: Mann-Whitney p value of the training AUROC, Benjamini-Hochberg adjusted over all
            pairs of live latent and label; 1 for a latent that is silent in training. Below q, on
            average at most a share q tells nothing.
    """

    names: list[str]
    n_docs_train: Int64[np.ndarray, " n_labels"]
    n_docs_held_out: Int64[np.ndarray, " n_labels"]
    auroc_train: Float32[np.ndarray, "n_latents n_labels"]
    auroc_held_out: Float32[np.ndarray, "n_latents n_labels"]
    q_train: Float32[np.ndarray, "n_latents n_labels"]


@dataclass(frozen=True)
class DocTable:
    """What is known of each document: label, title, and whether training left it out."""

    label: list[str | None]
    title: list[str | None]
    held_out: Bool[np.ndarray, " n_docs"]


def latent_stats(
    entries: Entries, first: int, last: int, *, held_out: npt.NDArray[np.bool_]
) -> LatentStats:
    """Figures of the latents `first` to `last - 1` from all their activations.

    `held_out` says of each activation whether its document is held out.
    """
    n = last - first
    latent, value = entries.latent - first, entries.value
    train = ~held_out
    max_act = np.zeros(n, dtype=np.float32)
    np.maximum.at(max_act, latent, value)
    with np.errstate(invalid="ignore"):
        place = np.floor(value / max_act[latent] * N_BINS).astype(np.int64)
    cell = latent * N_BINS + np.minimum(place, N_BINS - 1)
    return LatentStats(
        n_fired=np.bincount(latent, minlength=n),
        n_fired_train=np.bincount(latent[train], minlength=n),
        mass_train=np.bincount(latent, weights=value * train, minlength=n),
        mass_held_out=np.bincount(latent, weights=value * ~train, minlength=n),
        max_act=max_act,
        histogram=np.bincount(cell, minlength=n * N_BINS).reshape(n, N_BINS),
    )
