"""Splicing: let the model run on the SAE's reconstruction instead of its own activation.

x' = decode(encode(x)) at content tokens; special tokens and padding keep theirs, since their
activations can be tens of times longer and no SAE of this package is trained on them. What a
transcoder makes of the hook that it reads takes the place of the activation at the hook that it
writes, in the same forward pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.intervene.probe import Probe
from saetools.intervene.replacing import find_ends, replacing
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["splice"]


@contextmanager
def splice(
    model: SubjectModel, sae: SAE, *, hook_name: str | None = None, strict: bool = True
) -> Iterator[Probe]:
    """Replace the activation by its reconstruction while the block lasts.

    Args:
        hook_name: the hook that is read; by default the one that the SAE was trained at.
        strict: refuse a model other than the one the SAE was trained on.

    Yields:
        A probe whose mean relative change is the mean of ‖x_hat - x‖ / ‖x‖, x being what is
        replaced.

    Raises:
        ConfigError: the model is another one than the SAE's, or, in the first forward pass, it
            computes what a transcoder writes before what it reads.
        ShapeError: a hook has another width than the SAE.

    >>> with splice(model, sae):                            # doctest: +SKIP
    ...     loss = model.loss(texts)
    """
    ends = find_ends(model, sae, hook_name=hook_name, strict=strict)
    probe = Probe("splice", ends.writes, torch.empty(0, dtype=torch.int64, device=sae.device))

    def seen(before: Float[Tensor, "n d_out"], after: Float[Tensor, "n d_out"]) -> None:
        probe.record(before, total_change=(after - before).norm(dim=-1))

    with model.editing(replacing(sae, ends, seen=seen)):
        yield probe
