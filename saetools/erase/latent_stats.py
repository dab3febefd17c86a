"""How often and how strongly each latent fires on some rows, or on some texts.

Rows are encoded in chunks; memory grows with the dictionary, never with rows times latents.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.erase.rows import LabelledRows
from saetools.errors import ConfigError
from saetools.intervene.base import activations_of
from saetools.sae import SAE
from saetools.types import SparseLatents

__all__ = [
    "LatentStats",
    "active_quantile",
    "latent_rows",
    "latent_stats",
    "text_peaks",
    "text_stats",
]

_CHUNK_ROWS = 4096
_CHUNK_TEXTS = 64


@dataclass(frozen=True)
class LatentStats:
    """Statistics of every latent over `n` rows (or texts).

    Args:
        n: number of rows.
        rate: share of them on which it fires, (n_latents,).
        mean: mean activation over all of them, silent ones included, (n_latents,).
        mean_square: mean squared activation, (n_latents,).
    """

    n: int
    rate: Float[Tensor, " n_latents"]
    mean: Float[Tensor, " n_latents"]
    mean_square: Float[Tensor, " n_latents"]


def latent_stats(sae: SAE, x: Float[Tensor, "n d_in"]) -> LatentStats:
    """Statistics over rows."""
    sums = torch.zeros(3, sae.config.n_latents, dtype=torch.float64)
    for start in range(0, len(x), _CHUNK_ROWS):
        encoded = _encode(sae, x[start : start + _CHUNK_ROWS])
        index = encoded.indices.flatten().cpu()
        value = encoded.values.flatten().double().cpu()
        for total, part in zip(sums, ((value != 0).double(), value, value**2), strict=True):
            total.index_add_(0, index, part)
    rate, mean, square = (sums / max(len(x), 1)).float()
    return LatentStats(len(x), rate, mean, square)


def text_peaks(sae: SAE, rows: LabelledRows) -> Iterator[Float[Tensor, "n_texts n_latents"]]:
    """The largest activation of every latent in each text, some texts at a time, in their order."""
    place = rows.place
    ends = torch.bincount(place.text, minlength=place.n_texts).cumsum(0).tolist()
    for first in range(0, place.n_texts, _CHUNK_TEXTS):
        last = min(first + _CHUNK_TEXTS, place.n_texts)
        span = slice(ends[first - 1] if first else 0, ends[last - 1])
        peaks = torch.zeros(last - first, sae.config.n_latents)
        for start in range(span.start, span.stop, _CHUNK_ROWS):
            part = slice(start, min(start + _CHUNK_ROWS, span.stop))
            encoded = _encode(sae, rows.x[part])
            key = (place.text[part] - first).unsqueeze(1) * peaks.shape[1] + encoded.indices.cpu()
            peaks.view(-1).scatter_reduce_(
                0, key.flatten(), encoded.values.float().cpu().flatten(), "amax"
            )
        yield peaks


def text_stats(sae: SAE, rows: LabelledRows, *, forget: bool) -> LatentStats:
    """Statistics over the texts of one side, each counted with its largest activation."""
    sums = torch.zeros(3, sae.config.n_latents, dtype=torch.float64)
    wanted = (rows.text_labels > 0) == forget
    first = 0
    for peaks in text_peaks(sae, rows):
        part = peaks[wanted[first : first + len(peaks)]].double()
        sums += torch.stack([(part != 0).double().sum(0), part.sum(0), (part**2).sum(0)])
        first += len(peaks)
    n = int(wanted.sum())
    rate, mean, square = (sums / max(n, 1)).float()
    return LatentStats(n, rate, mean, square)


def latent_rows(
    sae: SAE, x: Float[Tensor, "n d_in"], latents: Int[Tensor, " m"]
) -> Float[Tensor, "n m"]:
    """Activations of chosen latents, zero where silent."""
    chosen = latents.to(sae.device)
    parts = [
        activations_of(_encode(sae, x[start : start + _CHUNK_ROWS]), chosen)[0].float().cpu()
        for start in range(0, len(x), _CHUNK_ROWS)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, len(latents))


def active_quantile(activations: Float[Tensor, "n m"], q: float) -> Float[Tensor, " m"]:
    """The q-quantile of each latent's activations where it fires; 0 of one that never does."""
    found = [column[column != 0] for column in activations.T]
    return torch.stack([v.quantile(q) if len(v) else v.new_zeros(()) for v in found])


def _encode(sae: SAE, x: Tensor) -> SparseLatents:
    if sae.target_hook_name is not None or sae.d_out != sae.config.d_in:
        raise ConfigError(
            f"a {sae.config.type} SAE that writes {sae.target_hook_name or 'another hook'} was "
            "given; an eraser changes what it reads, so it needs an SAE that reconstructs that"
        )
    with torch.no_grad():
        return sae.encode(x.to(sae.device, torch.float32))
