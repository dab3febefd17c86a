"""An SAE of which a process holds some latents only: cutting it up, and putting it together again.

A slice is an SAE of the same architecture and config whose `by_latent` parameters have fewer rows.
Its config says `n_latents` of the whole.
"""

import torch
from torch import Tensor

from saetools.errors import ShapeError
from saetools.sae.base import SAE
from saetools.sae.sharing import Ranks

__all__ = ["hollow", "joined_slices", "slice_of"]


def slice_of(sae: SAE, latents: Ranks) -> SAE:
    """This rank's latents of an SAE, whole or built as that part; the tensors are copies.

    Raises:
        ShapeError: the SAE was built as another part.
    """
    n = sae.config.n_latents
    span = latents.span(n)
    if len(sae.W_dec) not in (n, span.stop - span.start):
        raise ShapeError(
            f"process {latents.rank} of {latents.size} trains latents {span.start} to {span.stop} "
            f"of {n}, and was given an SAE with {len(sae.W_dec)} of them; build it whole, or with "
            f"part=({latents.rank}, {latents.size})"
        )
    rows = span if len(sae.W_dec) == n else slice(None)
    return sae.with_tensors(
        {
            name: (tensor[rows] if name in sae.by_latent else tensor).clone()
            for name, tensor in sae.state_dict().items()
        }
    )


def joined_slices(part: SAE, latents: Ranks) -> SAE:
    """The SAE whose slices the ranks hold: in host memory on the first, `hollow` on the others."""
    if latents.size == 1:
        return part
    state: dict[str, Tensor] = {}
    for name, tensor in part.state_dict().items():
        whole = latents.collect(tensor) if name in part.by_latent else tensor.cpu()
        if whole is not None:
            state[name] = whole
    return hollow(part) if latents.rank else part.with_tensors(state)


def hollow(sae: SAE) -> SAE:
    """An SAE of the same config whose tensors have shapes and no values (torch's device "meta")."""
    n_latents = sae.config.n_latents
    shapes = {
        name: (n_latents, *tensor.shape[1:]) if name in sae.by_latent else tuple(tensor.shape)
        for name, tensor in sae.state_dict().items()
    }
    return sae.with_tensors({name: torch.empty(s, device="meta") for name, s in shapes.items()})
