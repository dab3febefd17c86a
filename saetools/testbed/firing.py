"""How the firing of latents agrees with labels of the planted world.

    F1 = 2 · both / (latent fires + label on)                              0 to 1, higher is better

over the units of a sort of label: tokens, sentences, documents.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from saetools import progress
from saetools.analysis.auroc import Pooled, pool_documents
from saetools.analysis.codes import CodeLists, CodeWriter, Entries, turn
from saetools.sae import SAE
from saetools.store import ActivationStore
from saetools.testbed.truth import Layer

__all__ = ["encode_store", "firing_f1", "frequent", "pooled_by_unit"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_BATCH_TOKENS = 8192


def encode_store(sae: SAE, store: ActivationStore, folder: Path) -> CodeLists:
    """All activations of an SAE on a store, as files in a folder."""
    writer = CodeWriter(folder, n_latents=sae.config.n_latents)
    with progress.task("encode", total=store.n_tokens, unit="tokens") as task, torch.no_grad():
        for x in _rows(sae, store):
            writer.append(sae.encode(x))
            task.advance(len(x))
    return turn(writer.close(), folder)


def firing_f1(
    pooled: Pooled, n_latents: int, layer: Layer, units: Bools
) -> npt.NDArray[np.float64]:
    """F1 of "the latent fires" for each label, over the units that count, (n_latents, n_labels)."""
    units = units & layer.counted
    pooled = pooled.take(units[pooled.doc])
    n_labels = len(layer.names)
    label = layer.label[pooled.doc]
    known = label >= 0
    cell = pooled.latent[known] * n_labels + label[known]
    both = np.bincount(cell, minlength=n_latents * n_labels).reshape(n_latents, n_labels)
    fires = np.bincount(pooled.latent, minlength=n_latents)
    on = np.bincount(layer.label[units & (layer.label >= 0)], minlength=n_labels)
    return np.asarray(2 * both / np.maximum(fires[:, None] + on, 1))


def pooled_by_unit(entries: Entries, latent: Ints, layer: Layer) -> Pooled:
    """The largest activation of each latent in each unit; `latent` numbers those of the entries."""
    if layer.unit_of_row is None:
        return Pooled(latent, entries.row, entries.value, entries.row)
    inside = layer.unit_of_row[entries.row] >= 0
    return pool_documents(
        latent[inside], entries.row[inside], entries.value[inside], doc_of_row=layer.unit_of_row
    )


def frequent(layer: Layer, min_train: int, min_held_out: int) -> npt.NDArray[np.bool_]:
    """Labels that are on at enough units of training and of held-out documents."""
    on = (layer.label >= 0) & layer.counted
    train, held = (
        np.bincount(layer.label[on & units], minlength=len(layer.names))
        for units in (~layer.held_out, layer.held_out)
    )
    return np.asarray((train >= min_train) & (held >= min_held_out))


def _rows(sae: SAE, store: ActivationStore) -> Iterator[torch.Tensor]:
    for batch in store.stream(batch_tokens=_BATCH_TOKENS):
        yield batch.x.to(sae.device)
