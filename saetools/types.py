"""The tensors that travel between floors: sparse latents."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saetools.errors import ShapeError

__all__ = ["SparseLatents"]


@dataclass(frozen=True)
class SparseLatents:
    """The active latents of `n` tokens, `k` slots a token.

    A slot whose value is 0 is empty; its index means nothing. Architectures whose number of active
    latents varies (BatchTopK, JumpReLU) pad every row to the largest row of the batch.

    Args:
        values: activations, shape (n, k).
        indices: latent of each value, shape (n, k), int64.
        n_latents: size of the dictionary.
    """

    values: Float[Tensor, "n k"]
    indices: Int[Tensor, "n k"]
    n_latents: int

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape != self.indices.shape:
            raise ShapeError(
                f"SparseLatents takes values and indices of one shape (n, k); got values "
                f"{tuple(self.values.shape)} and indices {tuple(self.indices.shape)}"
            )

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def active(self) -> Bool[Tensor, "n k"]:
        """Which slots hold an active latent."""
        return self.values != 0

    def l0(self) -> Int[Tensor, " n"]:
        """Number of active latents of each token."""
        return self.active.sum(-1)

    def dense(self) -> Float[Tensor, "n n_latents"]:
        """The same latents as one row of `n_latents` values a token; empty slots add nothing."""
        out = self.values.new_zeros(len(self), self.n_latents)
        return out.scatter_add_(1, self.indices, self.values)

    def of(self, latents: Int[Tensor, " m"]) -> Float[Tensor, "n m"]:
        """Activations of the chosen latents only, zero where they did not fire."""
        hit = self.indices.unsqueeze(-1) == latents.to(self.indices.device)  # (n, k, m)
        return (self.values.unsqueeze(-1) * hit).sum(1)

    def prefix(self, width: int) -> "SparseLatents":
        """The same latents with every latent at or beyond `width` switched off (Matryoshka)."""
        kept = torch.where(self.indices < width, self.values, torch.zeros_like(self.values))
        return SparseLatents(kept, self.indices, self.n_latents)

    def top(self, k: int) -> "SparseLatents":
        """The same latents with all but the `k` largest of each token switched off.

        Like `prefix`, it narrows what an SAE has selected already, by rank or by threshold:
        `sae.decode(sae.encode(x).prefix(width).top(k))` reads at most k latents below `width`.
        """
        if k < 1:
            raise ShapeError(f"top(k) keeps the k largest latents of each token; got k = {k}")
        if k >= self.values.shape[1]:
            return self
        slots = self.values.topk(k, dim=1).indices.sort(dim=1).values
        return SparseLatents(
            self.values.gather(1, slots), self.indices.gather(1, slots), self.n_latents
        )

    @staticmethod
    def joined(parts: "Sequence[SparseLatents]") -> "SparseLatents":
        """The tokens of all parts one after the other, padded to the largest number of slots."""
        k = max(part.values.shape[1] for part in parts)
        pad = torch.nn.functional.pad
        return SparseLatents(
            torch.cat([pad(part.values, (0, k - part.values.shape[1])) for part in parts]),
            torch.cat([pad(part.indices, (0, k - part.indices.shape[1])) for part in parts]),
            parts[0].n_latents,
        )

    def to(self, device: torch.device | str) -> "SparseLatents":
        """Return the same latents on another device."""
        return SparseLatents(self.values.to(device), self.indices.to(device), self.n_latents)
