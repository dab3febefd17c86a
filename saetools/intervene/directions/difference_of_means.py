"""Difference of means: from the examples without a concept to those with it (CAA, DiM).

v = mean of positive rows - mean of negative rows (Rimsky et al. 2023, arXiv:2312.06681; Arditi et
al. 2024, arXiv:2406.11717). Each class is averaged on its own, so unequal numbers do not tilt it.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.directions._base import Direction, check_rows
from saetools.models.base import SubjectModel

__all__ = ["At", "difference_of_means", "rows_of_texts", "text_contrast"]

At = Literal["last", "all", "mean"]


def difference_of_means(
    positive: Float[Tensor, "n d_in"],
    negative: Float[Tensor, "m d_in"],
    *,
    hook_name: str | None = None,
) -> Direction:
    """The direction from the mean of the negative rows to that of the positive ones.

    Its info has the numbers of rows, the mean length of an activation (`mean_norm`), and the mean
    projections of both classes on the unit direction (`positive_mean`, `negative_mean`): a
    projection set to `negative_mean` is the affine form of directional ablation.
    """
    check_rows(positive, negative, what="difference_of_means")
    high, low = positive.detach().double(), negative.detach().double()
    vector = high.mean(0) - low.mean(0)
    unit = vector / vector.norm().clamp_min(1e-30)
    rows = torch.cat([high, low])
    info = {
        "n_positive": len(high),
        "n_negative": len(low),
        "mean_norm": float(rows.norm(dim=-1).mean()),
        "positive_mean": float(high.mean(0) @ unit),
        "negative_mean": float(low.mean(0) @ unit),
    }
    return Direction(vector, "difference_of_means", hook_name, info)


def text_contrast(
    model: SubjectModel,
    positive: Sequence[str],
    negative: Sequence[str],
    *,
    hook_name: str,
    at: At = "last",
) -> Direction:
    """Difference of means between texts with a concept and texts without it.

    Args:
        at: which rows of a text: "last", its last content token (where a question's answer or a
            contrasting letter stands); "all", every content token; "mean", one mean row a text.
    """
    found = model.resolve(hook_name)
    tables = (rows_of_texts(model, texts, hook_name=found, at=at) for texts in (positive, negative))
    return difference_of_means(*tables, hook_name=found)


def rows_of_texts(
    model: SubjectModel, texts: Sequence[str], *, hook_name: str, at: At = "last", batch: int = 32
) -> Float[Tensor, "n d_in"]:
    """Activations of texts at a hook, on the CPU; BOS and other special tokens are left out.

    Raises:
        ConfigError: there is no text, or one without a content token.
    """
    if at not in ("last", "all", "mean"):
        raise ConfigError(f"unknown rows at={at!r}; choose 'last', 'all' or 'mean'")
    parts = []
    for start in range(0, len(texts), batch):
        tokens = model.tokenize(texts[start : start + batch])
        x = model.activations(tokens, [hook_name])[hook_name].float()
        content = tokens.content
        if not bool(content.any(1).all()):
            empty = start + int((~content.any(1)).long().argmax())
            raise ConfigError(f"text {empty} ({texts[empty]!r}) has no content token; leave it out")
        if at == "all":
            parts.append(x[content].cpu())
        elif at == "mean":
            kept = x * content.unsqueeze(-1)
            parts.append((kept.sum(1) / content.sum(1, keepdim=True)).cpu())
        else:
            place = torch.arange(content.shape[1], device=content.device)
            last = torch.where(content, place, -1).amax(1)
            parts.append(x[torch.arange(len(x), device=x.device), last].cpu())
    if not parts:
        raise ConfigError("a direction from texts needs at least one text of each kind; got none")
    return torch.cat(parts)
