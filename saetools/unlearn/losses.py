"""Losses that methods share, on the tokens that count."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.models.base import SubjectModel
from saetools.unlearn.rows import Batch

__all__ = ["forward", "kl_to", "mean_nll", "row_nll", "squared_difference"]


def forward(model: SubjectModel, batch: Batch) -> Float[Tensor, "batch pos vocab"]:
    """Logits in float32, with gradients to the weights that ask for them."""
    hf: Any = model.hf
    tokens = batch.tokens.to(model.device)
    out = hf(input_ids=tokens.ids, attention_mask=tokens.mask.long(), use_cache=False)
    logits: Tensor = out.logits
    return logits.float()


def row_nll(logits: Float[Tensor, "batch pos vocab"], batch: Batch) -> Float[Tensor, " batch"]:
    """-Σ log p of the counted tokens of each row, in nats."""
    nll = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch.tokens.ids[:, 1:], reduction="none"
    )  # (batch, pos - 1)
    return (nll * batch.counted[:, 1:]).sum(1)


def mean_nll(logits: Float[Tensor, "batch pos vocab"], batch: Batch) -> Float[Tensor, ""]:
    """-log p by counted token, in nats."""
    return row_nll(logits, batch).sum() / batch.counted[:, 1:].sum().clamp_min(1)


def kl_to(
    reference: Float[Tensor, "batch pos vocab"],
    logits: Float[Tensor, "batch pos vocab"],
    batch: Batch,
) -> Float[Tensor, ""]:
    """KL(reference ‖ model) by counted token, in nats."""
    p = reference[:, :-1].log_softmax(-1)
    q = logits[:, :-1].log_softmax(-1)
    by_token = (p.exp() * (p - q)).sum(-1) * batch.counted[:, 1:]
    return by_token.sum() / batch.counted[:, 1:].sum().clamp_min(1)


def squared_difference(now: Tensor, before: Tensor, batch: Batch) -> Float[Tensor, ""]:
    """Mean squared difference of two activations (batch, pos, d) over content tokens."""
    where = batch.tokens.content
    return (now[where] - before[where]).float().square().mean()
