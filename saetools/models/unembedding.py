"""What a direction of the residual stream does to the next-token logits, norm folded in.

The gain of the final norm is measured, not read: Gemma's norms multiply by 1 + weight, others by
weight, and only a LayerNorm takes the mean away.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saetools.models.base import LanguageModel, SubjectModel
from saetools.models.hook_names import parse

__all__ = ["Unembedding", "unembedding_of", "writes_to_residual"]


@dataclass(frozen=True)
class Unembedding:
    """Token directions of a language model as seen from before its final norm.

    Args:
        rows: unembedding of each token times the norm's gain, minus its mean over the width where
            the norm takes the mean away; the norm's division by the length is left out.
    """

    rows: Float[Tensor, "vocab d_model"]

    def centred(self) -> Float[Tensor, "vocab d_model"]:
        """Rows minus the mean row: what all tokens share moves no probability."""
        return self.rows - self.rows.mean(0)


def writes_to_residual(hook_name: str) -> bool:
    """Whether what is added at a hook is added to the residual stream as it is."""
    return parse(hook_name) is not None or hook_name.endswith(".hook_resid_mid")


def unembedding_of(model: SubjectModel) -> Unembedding | None:
    """The token directions of a language model; None of any other, or where no norm was found."""
    hf: Any = getattr(model, "hf", None)
    if not isinstance(model, LanguageModel) or hf is None:
        return None
    head, norm = hf.get_output_embeddings(), _final_norm(hf)
    if head is None or norm is None:
        return None
    weight: Tensor = head.weight.detach().float()
    with torch.no_grad():
        gain, takes_mean = _measure(norm, weight.shape[1])
    rows = weight * gain
    return Unembedding(rows - rows.mean(1, keepdim=True) if takes_mean else rows)


def _final_norm(hf: Any) -> nn.Module | None:
    """The last norm that stands beside the list of blocks, not inside a block."""
    for holder in (hf.base_model, *hf.base_model.children()):
        children = dict(holder.named_children())
        if any(isinstance(child, nn.ModuleList) for child in children.values()):
            norms = [c for c in children.values() if "norm" in type(c).__name__.lower()]
            return norms[-1] if norms else None
    return None


def _measure(norm: nn.Module, width: int) -> tuple[Tensor, bool]:
    """Gain of each dimension, and whether the mean is taken away."""
    parameter = next(norm.parameters(), torch.zeros(1))

    def odd(x: Tensor) -> Tensor:
        """The part of the norm that changes sign with its input, so without a bias."""
        x = x.to(parameter).view(1, 1, -1)
        half: Tensor = (norm(x) - norm(-x)) / 2
        return half.flatten().float()

    x = torch.full((width,), 100.0)  # far above the norm's epsilon
    x[1::2] = -100.0
    if width % 2:  # a mean of zero all the same
        x[-3:] = torch.tensor([100.0, 100.0, -200.0])
    scale = x.square().mean().sqrt()
    gain = odd(x) / (x / scale).to(parameter.device)
    flat = odd(torch.full((width,), 100.0))
    return gain, bool(flat.abs().max() < 1e-3 * gain.abs().max())
