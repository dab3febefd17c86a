"""What tests of formats share: weights away from where training starts, and a look at notes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import saetools as st
from saetools.sae import SAE

D_IN, N_LATENTS = 12, 48


def draw(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """Normal numbers."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(n: int = 40, seed: int = 9) -> Tensor:
    """Activations with a mean and a scale of their own."""
    return 3 * draw(n, D_IN, seed=seed) + 1


def weights(d_out: int = D_IN) -> dict[str, Tensor]:
    """Weights of an SAE in the field's orientation; no row of W_dec has unit norm."""
    return {
        "W_enc": draw(D_IN, N_LATENTS, seed=1, scale=0.5),
        "b_enc": draw(N_LATENTS, seed=2),
        "W_dec": draw(N_LATENTS, d_out, seed=3, scale=0.4),
        "b_dec": draw(d_out, seed=4),
        "threshold": draw(N_LATENTS, seed=5).abs() + 0.5,
    }


def trained(kind: str, **fields: Any) -> SAE:
    """An SAE of ours whose every tensor is away from where training starts."""
    sae = st.build_sae(kind, d_in=D_IN, n_latents=N_LATENTS, seed=1, **fields)
    with torch.no_grad():
        for i, parameter in enumerate(sae.parameters()):
            parameter.add_(draw(*parameter.shape, seed=50 + i, scale=0.1))
    sae.meta |= {"hook_name": "blocks.3.hook_resid_post", "model": {"name": "gpt2"}}
    ready = sae if sae.calibrated_l0 is None else sae.with_threshold(0.7)
    return ready.requires_grad_(False)


def by_token(scores: Tensor, k: int) -> Tensor:
    """relu of the k largest of each row, the rest zero."""
    values, indices = scores.topk(k, dim=1)
    return torch.zeros_like(scores).scatter_(1, indices, values.relu())


def notes(sae: SAE) -> dict[str, str]:
    """What the conversion changed, by its word."""
    return {note["what"]: note["done"] for note in sae.meta["converted"]["notes"]}


def loaded(path: Path) -> SAE:
    """The SAE at a path, whatever wrote it."""
    return SAE.load(path)
