"""The inference threshold, as BatchTopK has it: the one that gives the target L0 on many rows.

A running mean of batch minima depends on the batch size; the quantile of all positive
pre-activations does not (card: Bussmann et al. 2024, arXiv:2412.06410).
"""

from itertools import islice

import torch

from saetools.errors import NotFittedError
from saetools.sae import SAE
from saetools.sae.selection import kth_largest
from saetools.sae.sharing import ALONE, Ranks
from saetools.store import ActivationSource
from saetools.store.reader import Split

__all__ = ["calibrate"]

_BATCH = 4096
_LEAST_BATCHES = 2
_MOST_VALUES = 8_000_000


def calibrate(
    sae: SAE,
    store: ActivationSource,
    *,
    hook_name: str | None = None,
    seed: int = 0,
    latents: Ranks = ALONE,
) -> SAE:
    """Return `sae` with the threshold at which its target L0 is met on average.

    It is found on held-out rows, as many as are there and at most 8 million active latents of them;
    on training rows where fewer than 8192 are held out. `meta["calibration"]` says on which, and
    what came out. An architecture without a threshold is returned as it is. `latents` are the
    processes that share its dictionary, where `sae` is a slice.

    Raises:
        NotFittedError: no pre-activation of the store is positive: the SAE is not trained.
    """
    wanted = sae.calibrated_l0
    if wanted is None:
        return sae
    split: Split = "held_out"
    if store.n_batches(_BATCH, split=split) < _LEAST_BATCHES:
        split = "train"
    n_batches = max(1, int(_MOST_VALUES / (wanted * _BATCH)))
    batches = list(
        islice(store.batches(_BATCH, seed=seed, split=split, hook_name=hook_name), n_batches)
    )
    n_tokens = sum(len(x) for x in batches)
    first = _positive(sae, batches[0], 0.0, latents)
    if len(first) == 0:
        raise NotFittedError(
            "no pre-activation of this SAE is positive on its own store, so no threshold can be "
            "found; train it first, or check that store and SAE belong together"
        )
    floor = 0.5 * kth_largest(first, min(round(wanted * len(batches[0])), len(first)))
    values = torch.cat([_positive(sae, x, floor, latents) for x in batches])
    budget = round(wanted * n_tokens)
    if len(values) <= budget:
        values = torch.cat([_positive(sae, x, 0.0, latents) for x in batches])
    # Strictly above the next value down, so that exactly the budget fires on these rows.
    threshold = kth_largest(values, budget + 1) if len(values) > budget else 0.0
    twin = sae.with_threshold(threshold)
    l0 = float((values > threshold).sum()) / max(n_tokens, 1)
    twin.meta["calibration"] = {
        "split": split, "n_tokens": n_tokens, "threshold": threshold, "l0": l0,
    }  # fmt: skip
    return twin


@torch.no_grad()
def _positive(sae: SAE, x: torch.Tensor, floor: float, latents: Ranks) -> torch.Tensor:
    return latents.gather(sae.values_above(x.to(sae.device), floor))
