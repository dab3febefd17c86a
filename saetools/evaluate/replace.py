"""The floors that metrics compare with: the activation replaced by one constant vector."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.models.base import Edit

__all__ = ["everywhere", "replaced_by"]


def replaced_by(vector: Float[Tensor, " d_in"]) -> Edit:
    """An edit that puts `vector` at every content token; special tokens and padding keep theirs."""

    def edit(
        x: Float[Tensor, "batch pos d_in"], content: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_in"]:
        return torch.where(content.unsqueeze(-1), vector.to(x.device, x.dtype), x)

    return edit


def everywhere(edit: Edit, mask: Bool[Tensor, "batch pos"]) -> Edit:
    """The same edit at every token of `mask`, special ones included."""
    return lambda x, _content: edit(x, mask.to(x.device))
