"""The scale of training: a map of raw activations that makes runs on any model comparable.

It is found from the store's moments (for whitening: from rows), stays fixed for the run, and is
folded into the finished weights.
"""

import math
from itertools import islice
from typing import NamedTuple

import torch

from saetools.errors import StoreError
from saetools.sae import Affine
from saetools.store import ActivationSource
from saetools.train.config import TrainConfig

__all__ = ["Scales", "find_map", "find_scales"]

_WHITEN_TOKENS = 262_144
# Directions of less than this share of the mean variance are not blown up further.
_LEAST_VARIANCE = 1e-4


class Scales(NamedTuple):
    """Fixed maps of the data.

    inputs brings what is read to the scale of training; outputs what is reconstructed; variance is
    Σ over dimensions of the variance of the mapped output.
    """

    inputs: Affine
    outputs: Affine
    variance: float

    @property
    def shared(self) -> bool:
        """Whether input and output are the same activations."""
        return self.inputs is self.outputs


def find_scales(
    store: ActivationSource, hook: str, config: TrainConfig, *, target_hook: str | None = None
) -> Scales:
    """Scales for a run that reads `hook` and reconstructs `target_hook` (itself by default).

    Raises:
        StoreError: all activations of a hook are zero, or all are the same.
    """
    inputs, variance = find_map(store, hook, config)
    if target_hook is None:
        return Scales(inputs, inputs, variance)
    outputs, variance = find_map(store, target_hook, config)
    return Scales(inputs, outputs, variance)


def find_map(store: ActivationSource, hook: str, config: TrainConfig) -> tuple[Affine, float]:
    """The map of one hook by `config.normalize`, and the variance of what it gives."""
    moments = store.moments(hook)
    width, total = store.width(hook), float(moments.variance.sum())
    if moments.mean_sq_norm == 0:
        raise StoreError(f"all activations of {store!r} at {hook} are zero; nothing can be learned")
    if total <= 0:
        raise StoreError(
            f"all activations of {store!r} at {hook} are the same vector; nothing can be learned"
        )
    if config.normalize == "none":
        return Affine(), total
    if config.normalize == "scale":
        scale = math.sqrt(width / moments.mean_sq_norm)
        return Affine(scale), total * scale**2
    shift = torch.as_tensor(moments.mean, dtype=torch.float32)
    if config.normalize == "mean":
        scale = math.sqrt(width / total)
        return Affine(scale, shift), total * scale**2
    covariance = _covariance(store, hook, config)
    sizes, directions = torch.linalg.eigh(covariance)
    root = sizes.clamp_min(_LEAST_VARIANCE * float(sizes.mean())).sqrt()
    matrix = (directions / root) @ directions.T
    inverse = (directions * root) @ directions.T
    variance = float((matrix @ covariance @ matrix).trace())
    return Affine(1.0, shift, matrix.float(), inverse.float()), variance


def _covariance(store: ActivationSource, hook: str, config: TrainConfig) -> torch.Tensor:
    """Covariance of training rows in float64, from at most 262,144 of them."""
    size = min(4096, config.batch_tokens)
    batches = store.batches(size, seed=config.seed, hook_name=hook)
    n, total, products = 0, torch.zeros(()), torch.zeros(())
    for x in islice(batches, -(-_WHITEN_TOKENS // size)):
        wide = x.double()
        n, total, products = n + len(x), total + wide.sum(0), products + wide.T @ wide
    mean = total / max(n, 1)
    return products / max(n, 1) - torch.outer(mean, mean)
