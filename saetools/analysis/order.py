"""Sort activations by latent, then by strength, with one integer key a pair.

A float32 that is not negative sorts like its bits, so (latent, value) fits one int64; sorting that
is five to ten times faster than sorting by two columns.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["places", "strongest_first", "weakest_first"]

Ints = npt.NDArray[np.int64]


def weakest_first(latent: Ints, value: npt.NDArray[np.floating]) -> Ints:
    """Order that sorts by latent, then value; equal pairs keep their order."""
    return np.argsort((latent << 32) | _bits(value), kind="stable")


def strongest_first(latent: Ints, value: npt.NDArray[np.floating]) -> Ints:
    """Order that sorts by latent, then value downwards; equal pairs keep their order."""
    return np.argsort((latent << 32) | (0x7FFFFFFF - _bits(value)), kind="stable")


def places(latent: Ints) -> Ints:
    """Place from 0 of each entry within its latent; `latent` is sorted."""
    sizes = np.bincount(latent)
    return np.arange(len(latent)) - (np.cumsum(sizes) - sizes)[latent]


def _bits(value: npt.NDArray[np.floating]) -> Ints:
    # Adding zero turns -0.0, whose bits would sort last, into 0.0.
    return (value.astype(np.float32) + np.float32(0)).view(np.int32).astype(np.int64)
