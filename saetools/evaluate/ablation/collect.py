"""Run documents through the model and keep one vector a document at two places.

"hook" is the activation at the SAE's hook after the edit, averaged over content tokens. "final" is
a text encoder's embedding, or a language model's last residual averaged over content tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.evaluate.documents import DocumentBatch
from saetools.models.base import SubjectModel, TextEncoder
from saetools.progress import Task

__all__ = ["Representation", "represent"]

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Representation:
    """One vector a document: at the SAE's hook (n, d_in), and at the end (n, d_model)."""

    hook: Rows
    final: Rows


def represent(
    model: SubjectModel, batches: Sequence[DocumentBatch], *, hook_name: str, task: Task
) -> Representation:
    """Read both places in one forward pass a batch, under whatever edits are in force."""
    last = model.resolve(f"blocks.{model.n_layers - 1}.hook_resid_post")
    parts: dict[str, list[Tensor]] = {"hook": [], "final": []}
    for batch in batches:
        with torch.no_grad(), _pooled(model, hook_name) as hook, _pooled(model, last) as final:
            if isinstance(model, TextEncoder):
                embedding = model.embed(batch.tokens)
            else:
                model.activations(batch.tokens, [last])
                embedding = final[-1]
        parts["hook"].append(hook[-1].float().cpu())
        parts["final"].append(embedding.float().cpu())
        task.advance(len(batch.places))
    back = np.argsort(np.concatenate([batch.places for batch in batches]))
    return Representation(
        hook=torch.cat(parts["hook"]).numpy()[back], final=torch.cat(parts["final"]).numpy()[back]
    )


@contextmanager
def _pooled(model: SubjectModel, hook_name: str) -> Iterator[list[Tensor]]:
    """Collect the mean over content tokens at a hook, one (batch, d) a forward pass.

    The reader is the innermost edit, so it sees what the edits around it made, and changes nothing.
    """
    seen: list[Tensor] = []

    def read(
        x: Float[Tensor, "batch pos d_in"], content: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_in"]:
        weight = content.to(torch.float32).unsqueeze(-1)
        # where, not a product: rows at padding are undefined and may hold NaN.
        kept = torch.where(content.unsqueeze(-1), x, torch.zeros_like(x)).float()
        seen.append(kept.sum(1) / weight.sum(1).clamp_min(1.0))
        return x

    with model.editing({hook_name: read}):
        yield seen
