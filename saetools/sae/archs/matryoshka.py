"""Matryoshka over BatchTopK: every prefix of the dictionary reconstructs on its own (2503.17547).

One selection over all latents is shared by all prefixes; the loss is the mean over prefixes of the
squared error, so early latents stay general. The reconstructions at all widths are cumulative sums
over levels and cost one gather together (`saetools.sae.nested`).
"""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, model_validator

from saetools.sae.archs._k_sparse import KSparseConfig
from saetools.sae.archs.batch_topk import BatchTopK
from saetools.sae.base import ARCHS
from saetools.sae.nested import Levels
from saetools.sae.objective import Objective
from saetools.sae.selection import Selection, count_bounds

__all__ = ["Matryoshka", "MatryoshkaConfig"]

_FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)


class MatryoshkaConfig(KSparseConfig):
    """Fields of a Matryoshka SAE."""

    type: Literal["matryoshka"] = Field(default="matryoshka", description="this architecture")
    widths: tuple[int, ...] = Field(
        default=(),
        description="prefix sizes, increasing, the last n_latents; default 1/16, 1/8, 1/4, 1/2, 1",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_widths(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("widths") and "n_latents" in data:
            n = int(data["n_latents"])
            parts = sorted({max(1, int(n * f)) for f in _FRACTIONS} | {n})
            return {**data, "widths": tuple(parts)}
        return data

    @model_validator(mode="after")
    def _widths_nest(self) -> "MatryoshkaConfig":
        rising = all(a < b for a, b in pairwise(self.widths))
        if not rising or self.widths[0] < 1 or self.widths[-1] != self.n_latents:
            raise ValueError(
                f"widths are {list(self.widths)}; they must be positive, strictly increasing and "
                f"end at n_latents ({self.n_latents})"
            )
        return self


@ARCHS.register("matryoshka")
class Matryoshka(BatchTopK):
    """Sparse autoencoder whose every prefix of `widths` latents is an autoencoder itself."""

    Config = MatryoshkaConfig
    config: MatryoshkaConfig

    @property
    def widths(self) -> tuple[int, ...]:
        """Prefix sizes that reconstruct on their own; the last is n_latents."""
        return self.config.widths

    def levels(self, chosen: Selection, objective: Objective) -> Levels:  # noqa: ARG002
        """A level a width; the loss is the mean over widths of the squared error."""
        n, n_levels = chosen.n_tokens, len(self.widths)
        edges = torch.tensor(self.widths[:-1], device=chosen.latents.device)
        level = torch.bucketize(chosen.latents, edges, right=True)
        bags = chosen.rows * n_levels + level  # in order already, as latents rise within a token
        return Levels(chosen, bags, count_bounds(bags, n * n_levels), (1 / n_levels,) * n_levels)
