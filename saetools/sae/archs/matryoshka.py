"""Matryoshka: every prefix of the dictionary reconstructs on its own (2503.17547).

One selection over all latents is shared by all prefixes; the loss is the mean over prefixes of the
squared error, so early latents stay general. The reconstructions at all widths are cumulative sums
over levels and cost one gather together (`saetools.sae.nested`).

Prefixes are the fixed `widths`, or drawn anew in each step from a truncated Pareto law that favours
short ones (N. Nabeshima's variant, without its sorting of latents).
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from saetools.sae.archs._k_sparse import KSparseConfig
from saetools.sae.archs._prefixes import WithWidths, drawn_prefixes
from saetools.sae.archs._selected import Rule, Selected
from saetools.sae.aux_k import AuxFit
from saetools.sae.base import ARCHS
from saetools.sae.nested import Levels, NestedFit
from saetools.sae.numbers import on_device
from saetools.sae.objective import Objective
from saetools.sae.selection import Selection, count_bounds

__all__ = ["Matryoshka", "MatryoshkaConfig"]


class MatryoshkaConfig(KSparseConfig, WithWidths):
    """Fields of a Matryoshka SAE."""

    type: Literal["matryoshka"] = Field(default="matryoshka", description="this architecture")
    selection: Rule = Field(
        default="batch_topk", description="how active latents are chosen: by batch or by token"
    )
    prefixes: Literal["fixed", "sampled"] = Field(
        default="fixed",
        description="fixed: the loss is over widths; sampled: over n_prefixes drawn in each step",
    )
    n_prefixes: int = Field(
        default=5, ge=1, description="prefixes a step where they are sampled, the whole included"
    )
    level_weights: tuple[float, ...] = Field(
        default=(),
        description="of each prefix in the loss, by their ratio; empty: all count the same",
    )
    aux: Literal["full", "levels"] = Field(
        default="full",
        description="full: dead latents reconstruct what the whole leaves over; levels: those of "
        "each block what the prefix up to that block does",
    )

    @model_validator(mode="after")
    def _prefixes_fit(self) -> "MatryoshkaConfig":
        sampled = self.prefixes == "sampled"
        if sampled and self.n_prefixes > self.n_latents:
            raise ValueError(
                f"n_prefixes is {self.n_prefixes} but the dictionary has only {self.n_latents} "
                "latents; n_prefixes must lie in 1..n_latents"
            )
        wanted = self.n_prefixes if sampled else len(self.widths)
        weights = self.level_weights
        if weights and (len(weights) != wanted or min(weights) <= 0):
            raise ValueError(
                f"level_weights are {list(weights)}; they must be {wanted} positive numbers, one "
                f"for each of the {'n_prefixes' if sampled else 'widths'}"
            )
        return self


@ARCHS.register("matryoshka")
class Matryoshka(Selected):
    """Sparse autoencoder whose every prefix of `widths` latents is an autoencoder itself."""

    Config = MatryoshkaConfig
    config: MatryoshkaConfig

    @property
    def rule(self) -> Rule:
        """As the config says."""
        return self.config.selection

    @property
    def widths(self) -> tuple[int, ...]:
        """Prefix sizes that reconstruct on their own; the last is n_latents."""
        return self.config.widths

    def levels(self, chosen: Selection, objective: Objective) -> Levels:
        """A level a prefix; the loss is the weighted mean over prefixes of the squared error."""
        prefixes = self._prefixes(objective)
        n, n_levels = chosen.n_tokens, len(prefixes)
        edges = on_device(prefixes[:-1], dtype=torch.int64, device=chosen.latents.device)
        first = objective.latents.span(self.config.n_latents).start
        level = torch.bucketize(chosen.latents + first, edges, right=True)
        bags = chosen.rows * n_levels + level  # in order already, as latents rise within a token
        weights = self.config.level_weights or (1.0,) * n_levels
        shares = tuple(weight / sum(weights) for weight in weights)
        return Levels(chosen, bags, count_bounds(bags, n * n_levels), shares)

    def _prefixes(self, objective: Objective) -> tuple[int, ...]:
        if self.config.prefixes == "fixed":
            return self.config.widths
        return drawn_prefixes(
            self.config.n_latents, n_prefixes=self.config.n_prefixes, draw=objective.draw
        )

    def _aux_fits(
        self, centred: Tensor, levels: Levels, fit: NestedFit, objective: Objective
    ) -> list[AuxFit]:
        """AuxK for all dead latents, or for those of each block the residual of its prefix.

        The losses of the blocks are weighted as the prefixes are.
        """
        if self.config.aux == "full":
            return super()._aux_fits(centred, levels, fit, objective)
        which, fits, start = self._dead(objective), [], 0
        numbers = which + objective.latents.span(self.config.n_latents).start
        for level, stop in enumerate(self._prefixes(objective)):
            own = which[(numbers >= start) & (numbers < stop)]
            if objective.latents.total(len(own)):
                found = self._aux_fit(centred, fit.residual(level), own, objective)
                fits.append(found.scaled(fit.weights[level]))
            start = stop
        return fits
