"""What architectures share whose latents are dense in training: autograd, some tokens at a time.

ReLU leaves half of all latents active at the start, so a list of active latents would be larger
than the matrix. The loss is a sum over tokens; `gradients` takes it a chunk of tokens at a time, so
that memory is that of a chunk. What a loss needs of the whole batch is found in a pass before.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.sae import ops
from saetools.sae.base import SAE, Gradients
from saetools.sae.objective import FIRED, Loss, Objective
from saetools.sae.scratch import Scratch
from saetools.sae.sharing import ALONE

__all__ = ["Batch", "Dense", "Part"]

# Of pre-activations a chunk; autograd keeps three to five times as much.
_CHUNK_BYTES = 32 * 2**20


class Batch(NamedTuple):
    """What the loss of a token depends on besides the token: tokens and mean L0 of the batch."""

    n_tokens: int
    l0: float


class Part(NamedTuple):
    """A chunk's share of the loss, its Σ‖target − x_hat‖², and its latents, dense."""

    total: Float[Tensor, ""]
    error: Float[Tensor, ""]
    latents: Float[Tensor, "c n_latents"]


class Dense(SAE):
    """A sparse autoencoder whose loss is an ordinary function of all its pre-activations."""

    @abstractmethod
    def _part(
        self,
        x: Float[Tensor, "c d_in"],
        target: Float[Tensor, "c d_in"],
        objective: Objective,
        batch: Batch,
    ) -> Part:
        """The share of some tokens in the loss, which is the sum of all shares."""

    def _batch(self, x: Float[Tensor, "n d_in"], objective: Objective) -> Batch:
        """What shares need of the whole batch, of which x has this process's rows."""
        return Batch(objective.rows.total(len(x)), 0.0)

    def loss(
        self,
        x: Float[Tensor, "n d_in"],
        objective: Objective,
        *,
        target: Float[Tensor, "n d_out"] | None = None,
    ) -> Loss:
        """Training loss of a batch, differentiable in the weights."""
        objective = replace(objective, rows=ALONE)  # autograd ends at this process
        parts = list(self._parts(x, objective, target))
        loss = _joined([_figures(part) for part in parts], len(x), objective)
        return loss._replace(total=torch.stack([part.total for part in parts]).sum())

    def gradients(
        self,
        x: Float[Tensor, "n d_in"],
        objective: Objective,
        *,
        target: Float[Tensor, "n d_out"] | None = None,
        scratch: Scratch | None = None,  # noqa: ARG002 - autograd brings its own memory
    ) -> tuple[Loss, Gradients]:
        """The loss of a batch and its gradient to every parameter, whole."""
        rows, mine, n_tokens = objective.rows, objective.rows.span(len(x)), len(x)
        x, target = x[mine], None if target is None else target[mine]
        parameters = dict(self.named_parameters())
        sums = {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()}
        figures: list[Loss] = []
        with torch.enable_grad():
            for part in self._parts(x, objective, target):
                found = torch.autograd.grad(
                    part.total, list(parameters.values()), allow_unused=True
                )
                for total, gradient in zip(sums.values(), found, strict=True):
                    if gradient is not None:
                        total.add_(gradient)
                figures.append(_figures(part))
        whole = {name: ops.RowGradient(whole=rows.sum(total)) for name, total in sums.items()}
        return _joined(figures, n_tokens, objective).of_all(rows), whole

    def _parts(self, x: Tensor, objective: Objective, target: Tensor | None) -> Iterator[Part]:
        self._check_width(x)
        target = self._target(x, target)
        batch = self._batch(x, objective)
        for start, stop in self._chunks(len(x)):
            yield self._part(x[start:stop], target[start:stop], objective, batch)

    def _chunks(self, n: int) -> Iterator[tuple[int, int]]:
        size = max(64, _CHUNK_BYTES // (self.W_dec.itemsize * self.config.n_latents))
        for start in range(0, max(n, 1), size):
            yield start, min(start + size, n)


@torch.no_grad()
def _figures(part: Part) -> Loss:
    """What a chunk adds to each figure of the loss; errors not yet over the variance."""
    on = part.latents > 0
    values = torch.where(on, part.latents, torch.inf)
    return Loss(
        part.total.detach(),
        part.error.detach(),
        part.error.new_zeros(()),
        (part.latents > FIRED).sum(0),
        on.sum().to(part.error.dtype),
        values.min() if values.numel() else part.error.new_tensor(torch.inf),
    )


def _joined(parts: list[Loss], n_tokens: int, objective: Objective) -> Loss:
    total, error, aux, counts, n_active, lowest = (
        torch.stack(column) for column in zip(*parts, strict=True)
    )
    per_error = 1 / (objective.variance * max(n_tokens, 1))
    return Loss(
        total.sum(), error.sum() * per_error, aux.sum(), counts.sum(0), n_active.sum(), lowest.min()
    )
