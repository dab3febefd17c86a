"""Embeddings of a text with each of its tokens masked in turn, as SAFREE's own rule needs them."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.models.base import SubjectModel, TokenBatch

__all__ = ["MaskedText", "masked_text"]

_BATCH = 32


class MaskedText(NamedTuple):
    """Rows of a text's content tokens, and the pooled embedding without each, both (n, d_in)."""

    x: Float[Tensor, "n d_in"]
    masked: Float[Tensor, "n d_in"]


def masked_text(
    model: SubjectModel,
    text: str,
    *,
    hook_name: str,
    mask_id: int | None = None,
    ctx_len: int | None = None,
) -> MaskedText:
    """Run the model once a token, each time with that token masked.

    Args:
        hook_name: whose rows are pooled (mean over the real tokens).
        mask_id: what stands in the place of a token; by default the tokenizer's mask token, else
            the id 0 as in the paper.
    """
    own = getattr(model.tokenizer, "mask_token_id", None)
    filler = own if mask_id is None and own is not None else (mask_id or 0)
    batch = model.tokenize([text], ctx_len=ctx_len)
    content = batch.content[0]
    places = content.nonzero().squeeze(1)
    x = model.activations(batch, [hook_name])[hook_name][0][content].float()
    parts = []
    for start in range(0, len(places), _BATCH):
        chosen = places[start : start + _BATCH]
        ids = batch.ids.repeat(len(chosen), 1)
        ids[torch.arange(len(chosen)), chosen] = filler
        # Masked tokens are no special tokens here: they still stand where they stood.
        shape = (len(chosen), -1)
        tokens = TokenBatch(ids, batch.mask.expand(shape), batch.special.expand(shape))
        rows = model.activations(tokens, [hook_name])[hook_name].float()
        weight = tokens.mask.unsqueeze(-1)
        parts.append((rows * weight).sum(1) / weight.sum(1))
    return MaskedText(x, torch.cat(parts) if parts else x)
