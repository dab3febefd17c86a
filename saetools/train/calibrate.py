"""The inference threshold of BatchTopK: the one that gives the target L0 on many rows.

A running mean of batch minima depends on the batch size; the quantile of all positive
pre-activations does not (card: Bussmann et al. 2024, arXiv:2412.06410).
"""

import copy
from itertools import islice

import torch

from saetools.errors import NotFittedError
from saetools.sae import SAE
from saetools.sae.archs.batch_topk import BatchTopK
from saetools.sae.selection import Encoder, kth_largest, select_above
from saetools.store import ActivationSource
from saetools.store.reader import Split

__all__ = ["calibrate"]

_BATCH = 4096
_LEAST_BATCHES = 2
_MOST_VALUES = 8_000_000


def calibrate(
    sae: SAE, store: ActivationSource, *, hook_name: str | None = None, seed: int = 0
) -> SAE:
    """Return `sae` with the threshold at which k latents a token are active on average.

    It is found on held-out rows, as many as are there and at most 8 million active latents of them;
    on training rows where fewer than 8192 are held out. `meta["calibration"]` says on which, and
    what came out. An architecture without a threshold is returned as it is.

    Raises:
        NotFittedError: no pre-activation of the store is positive: the SAE is not trained.
    """
    if not isinstance(sae, BatchTopK):
        return sae
    k = sae.config.k
    split: Split = "held_out"
    if store.n_batches(_BATCH, split=split) < _LEAST_BATCHES:
        split = "train"
    n_batches = max(1, _MOST_VALUES // (k * _BATCH))
    batches = list(
        islice(store.batches(_BATCH, seed=seed, split=split, hook_name=hook_name), n_batches)
    )
    n_tokens = sum(len(x) for x in batches)
    first = _positive(sae, batches[0], 0.0)
    if len(first) == 0:
        raise NotFittedError(
            "no pre-activation of this SAE is positive on its own store, so no threshold can be "
            "found; train it first, or check that store and SAE belong together"
        )
    floor = 0.5 * kth_largest(first, min(k * len(batches[0]), len(first)))
    values = torch.cat([_positive(sae, x, floor) for x in batches])
    if len(values) <= k * n_tokens:
        values = torch.cat([_positive(sae, x, 0.0) for x in batches])
    # Strictly above the next value down, so that exactly the budget fires on these rows.
    threshold = kth_largest(values, k * n_tokens + 1) if len(values) > k * n_tokens else 0.0
    twin = copy.deepcopy(sae)
    twin.threshold.fill_(threshold)
    l0 = float((values > twin.threshold).sum()) / max(n_tokens, 1)
    twin.meta["calibration"] = {
        "split": split, "n_tokens": n_tokens, "threshold": float(twin.threshold), "l0": l0,
    }  # fmt: skip
    return twin


@torch.no_grad()
def _positive(sae: BatchTopK, x: torch.Tensor, floor: float) -> torch.Tensor:
    x = x.to(sae.device)
    encoder = Encoder(sae.W_enc_rows, sae.b_enc)
    return select_above(x - sae.b_dec, encoder, threshold=floor).values
