"""What probes read of a concept in a model, before and while an eraser is at work.

Read are mean activations of texts at the eraser's hook, and what the model makes of it further up:
the embedding of a text encoder, the last block of a language model. An eraser that guards its own
hook may leave the concept to other tokens and other layers, and the second place shows that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.erase import Eraser, Tokens, erased
from saetools.erase.rows import token_mask
from saetools.evaluate.documents import document_batches
from saetools.evaluate.erasure import FreshProbe, ProbeReading, crossed_probe
from saetools.models.base import Edit, SubjectModel, TextEncoder, TokenBatch

__all__ = ["PlaceReading", "read_erasure", "text_vectors"]

_BATCH_TOKENS = 4096
_PROBES: tuple[FreshProbe, ...] = ("linear", "mlp")


@dataclass(frozen=True)
class PlaceReading:
    """What one kind of probe reads at one place.

    Args:
        place: the eraser's hook, "embedding" or the hook of the last block.
        probe: "linear" or "mlp".
        before: on the model as it is.
        after: of a fresh probe, with the eraser at work.
    """

    place: str
    probe: FreshProbe
    before: ProbeReading
    after: ProbeReading


def read_erasure(
    model: SubjectModel,
    eraser: Eraser,
    *,
    forget: Sequence[str],
    retain: Sequence[str],
    tokens: Tokens = "content",
    ctx_len: int | None = None,
    seed: int = 0,
) -> list[PlaceReading]:
    """Fit fresh probes on texts that the eraser was not fitted on, crosswise.

    Raises:
        ConfigError: fewer than 8 texts of a side.
    """
    assert eraser.hook_name is not None
    texts = [*forget, *retain]
    positive = np.arange(len(texts)) < len(forget)
    hook = model.resolve(eraser.hook_name)
    before = text_vectors(model, texts, hook_name=hook, tokens=tokens, ctx_len=ctx_len)
    with erased(model, eraser, tokens=tokens):
        after = text_vectors(model, texts, hook_name=hook, tokens=tokens, ctx_len=ctx_len)
    return [
        PlaceReading(
            place,
            kind,
            crossed_probe(before[place], positive, kind=kind, seed=seed),
            crossed_probe(after[place], positive, kind=kind, seed=seed),
        )
        for place in before
        for kind in _PROBES
    ]


def text_vectors(
    model: SubjectModel,
    texts: Sequence[str],
    *,
    hook_name: str,
    tokens: Tokens = "content",
    ctx_len: int | None = None,
) -> dict[str, npt.NDArray[np.float32]]:
    """One vector a text at the hook (mean over its tokens), and one of the model's output."""
    last = f"blocks.{model.n_layers - 1}.hook_resid_post"
    end = "embedding" if isinstance(model, TextEncoder) else model.resolve(last)
    found = dict.fromkeys((model.resolve(hook_name), end))
    parts: dict[str, list[Tensor]] = {place: [] for place in found}
    batches = document_batches(model, texts, ctx_len=ctx_len, batch_tokens=_BATCH_TOKENS)
    for batch in batches:
        acts = _activations(model, batch.tokens, tuple(found))
        weight = token_mask(batch.tokens, tokens).unsqueeze(-1).float()  # (batch, pos, 1)
        for place, x in acts.items():
            if place != "embedding":
                x = (x.float() * weight).sum(1) / weight.sum(1).clamp_min(1)
            parts[place].append(x.float().cpu())
    back = np.argsort(np.concatenate([batch.places for batch in batches]))
    return {place: torch.cat(rows).numpy()[back] for place, rows in parts.items()}


def _activations(
    model: SubjectModel, batch: TokenBatch, places: tuple[str, ...]
) -> dict[str, Float[Tensor, "batch ..."]]:
    """Activations at hooks, and the embedding, of which a text encoder needs one pass."""
    if not isinstance(model, TextEncoder):
        return model.activations(batch, places)
    seen: dict[str, Tensor] = {}

    def reader(place: str) -> Edit:
        def read(x: Tensor, content: Tensor) -> Tensor:  # noqa: ARG001 - an edit's signature
            seen[place] = x
            return x

        return read

    # The inner edit sees what the outer ones, an eraser among them, have made of the activation.
    with model.editing({place: reader(place) for place in places if place != "embedding"}):
        seen["embedding"] = model.embed(batch)
    return {place: seen[place] for place in places}
