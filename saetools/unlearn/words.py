"""The tokens that a latent's decoder row writes most, by the model's unembedding (logit lens)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.unlearn.plan import PlannedLatent

__all__ = ["written_words"]

_TOP = 20
_SHOWN = 5


@torch.no_grad()
def written_words(
    model: SubjectModel, sae: SAE, latents: Sequence[PlannedLatent], *, wanted: Sequence[str] = ()
) -> tuple[PlannedLatent, ...]:
    """The latents with the tokens that they write; with `wanted`, those that write one of them.

    A latent that writes a wanted token *down* has its direction turned: to suppress the concept it
    is driven up.

    Args:
        wanted: tokens by their text, spaces around them ignored; () keeps all latents.
    """
    hf: Any = model.hf
    head = hf.get_output_embeddings() if hasattr(hf, "get_output_embeddings") else None
    if head is None:  # no vocabulary to look at
        return tuple(latents)
    index = torch.tensor([one.latent for one in latents], dtype=torch.int64, device=sae.device)
    rows = sae.W_dec[index].to(model.device, head.weight.dtype)
    scores = rows @ head.weight.T  # (m, vocab)
    asked = {word.strip() for word in wanted}
    found = []
    for one, row in zip(latents, scores, strict=True):
        top, bottom = (_spelled(model, (s * row).topk(_TOP).indices.tolist()) for s in (1, -1))
        if not asked or asked & set(top):
            found.append(replace(one, words=tuple(top[:_SHOWN])))
        elif asked & set(bottom):
            found.append(replace(one, direction=1, words=tuple(bottom[:_SHOWN])))
    return tuple(found)


def _spelled(model: SubjectModel, ids: Sequence[int]) -> list[str]:
    return [str(model.tokenizer.decode([one])).strip() for one in ids]
