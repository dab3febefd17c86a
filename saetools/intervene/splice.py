"""Splicing: let the model run on the SAE's reconstruction instead of its own activation.

x' = decode(encode(x)) at content tokens; special tokens and padding keep theirs, since their
activations can be tens of times longer and no SAE of this package is trained on them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.intervene.base import edit_content_rows, find_site
from saetools.intervene.probe import Probe
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["splice"]


@contextmanager
def splice(
    model: SubjectModel, sae: SAE, *, hook_name: str | None = None, strict: bool = True
) -> Iterator[Probe]:
    """Replace the activation by its reconstruction while the block lasts.

    Args:
        hook_name: where; by default the hook that the SAE was trained at.
        strict: refuse a model other than the one the SAE was trained on.

    Yields:
        A probe whose mean relative change is the mean of ‖x_hat - x‖ / ‖x‖.

    Raises:
        ConfigError: the model is another one than the SAE's.
        ShapeError: the hook has another width than the SAE.

    >>> with splice(model, sae):                            # doctest: +SKIP
    ...     loss = model.loss(texts)
    """
    site = find_site(model, sae, hook_name=hook_name, strict=strict)
    probe = Probe("splice", site.hook_name, torch.empty(0, dtype=torch.int64, device=sae.device))

    def rows(x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        x_hat = sae(x)
        probe.record(x, total_change=(x_hat - x).norm(dim=-1))
        out: Tensor = x_hat
        return out

    def edit(
        x: Float[Tensor, "batch pos d_in"], content: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_in"]:
        return edit_content_rows(x, content, rows, device=sae.device)

    with model.editing({site.hook_name: edit}):
        yield probe
