"""Running the model for a score: texts to ids, and what a latent does on them."""

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.intervene import Site
from saetools.models import SubjectModel, TokenBatch

__all__ = ["activations_on", "ids_of"]


def ids_of(model: SubjectModel, text: str, *, first: bool = False) -> list[int]:
    """Token ids of a piece of text, no special ones; as after a space unless it comes `first`."""
    if not text:
        return []
    tokenizer = model.tokenizer
    bare: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if first:
        return bare
    spaced: list[int] = tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
    return spaced


def activations_on(site: Site, tokens: TokenBatch, latent: int) -> Float[Tensor, "batch pos"]:
    """Activation of a latent on each token, 0 at padding and special ones, on the CPU."""
    found = site.model.activations(tokens, [site.hook_name])[site.hook_name]
    content = tokens.content.to(found.device)
    with torch.no_grad():
        rows = site.sae.encode(found[content].to(site.sae.device, torch.float32))
    out = torch.zeros(tokens.ids.shape)
    chosen = torch.tensor([latent], device=site.sae.device)
    out[content.cpu()] = rows.of(chosen)[:, 0].cpu()
    return out
