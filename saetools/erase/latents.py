"""What erasers through an SAE share: chosen latents get new activations, the rest stays.

    x' = x + scale · Σ (new − old) · W_dec[latent]

Only the difference is added, so what the SAE fails to reconstruct is kept, and a row on which no
chosen latent changes keeps its bits. `scale` is 1 but for a control (see `control`).
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.erase.base import Eraser, Learned
from saetools.erase.rows import LabelledRows, Place
from saetools.erase.select import SelectConfig, Selection, select_latents
from saetools.intervene.base import activations_of
from saetools.sae import SAE

__all__ = ["GatedEraser", "LatentEraser", "Scored", "score_sums", "text_scores"]


class LatentEraser(Eraser):
    """An eraser that gives chosen latents new activations."""

    Config = SelectConfig
    needs_sae = True
    keeps_rest = True

    @classmethod
    def choose(cls, rows: LabelledRows, config: Any, sae: SAE) -> Selection:
        """Choose the latents; by default by their statistics."""
        return select_latents(sae, rows, config)

    @classmethod
    def describe(
        cls,
        latents: Int[Tensor, " m"],  # noqa: ARG003 - for those who need more than the latents
        rows: LabelledRows,  # noqa: ARG003
        config: Any,  # noqa: ARG003
        sae: SAE,  # noqa: ARG003
    ) -> Mapping[str, Tensor]:
        """What else `new_activations` needs to know about these latents."""
        return {}

    @classmethod
    def explain(cls, tensors: Mapping[str, Tensor]) -> Mapping[str, int | float]:  # noqa: ARG003
        """Figures of the report, read off the tensors."""
        return {}

    @classmethod
    def learn(cls, rows: LabelledRows, config: Any, sae: SAE | None) -> Learned:
        """Choose latents and describe them."""
        assert sae is not None
        found = cls.choose(rows, config, sae)
        tensors = cls.tensors_of(found.latents, rows, config, sae)
        return Learned(
            tensors, found.evidence, found.thresholds, found.rejected, cls.explain(tensors)
        )

    @classmethod
    def tensors_of(
        cls, latents: Int[Tensor, " m"], rows: LabelledRows, config: Any, sae: SAE
    ) -> dict[str, Tensor]:
        """All tensors of an eraser of these latents."""
        own = cls.describe(latents, rows, config, sae)
        return {"latents": latents.cpu(), "scale": torch.ones(()), **own}

    @abstractmethod
    def new_activations(self, old: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """What the activations of the chosen latents become; a silent one may not change alone."""

    def apply(self, x: Float[Tensor, "n d_in"], place: Place) -> Float[Tensor, "n d_in"]:  # noqa: ARG002
        """Change the chosen latents of every row."""
        return self.changed(x)

    def changed(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """The rows with their chosen latents changed, whatever their texts."""
        if len(x) == 0:
            return x
        assert self.sae is not None
        latents = self.tensors["latents"]
        old, _ = activations_of(self.sae.encode(x), latents)
        change = (self.new_activations(old) - old) * self.tensors["scale"]
        moved = (change != 0).any(-1, keepdim=True)  # (n, 1)
        return torch.where(moved, x + change @ self.sae.W_dec.detach()[latents].float(), x)


class Scored(NamedTuple):
    """Rows as they would be, and what each adds to the score of its text, (n,)."""

    x: Float[Tensor, "n d_in"]
    scores: Float[Tensor, " n"]


class GatedEraser(LatentEraser):
    """An eraser that acts on texts whose mean row score passes a threshold, and on no others."""

    by_text = True

    @abstractmethod
    def scored(self, x: Float[Tensor, "n d_in"]) -> Scored:
        """The changed rows, and the score of every row."""

    def apply(self, x: Float[Tensor, "n d_in"], place: Place) -> Float[Tensor, "n d_in"]:
        """Change the rows of the texts that pass; all others keep their bits."""
        if len(x) == 0:
            return x
        after, scores = self.scored(x)
        passed = text_scores(scores, place) >= self.tensors["gate"]
        return torch.where(passed[place.text].unsqueeze(-1), after, x)


def text_scores(scores: Float[Tensor, " n"], place: Place) -> Float[Tensor, " n_texts"]:
    """Mean row score of each text, with what earlier calls have seen of it."""
    sums = score_sums(scores, place)
    if place.before is not None:
        sums = sums + place.before
    return sums[:, 0] / sums[:, 1].clamp_min(1)


def score_sums(scores: Float[Tensor, " n"], place: Place) -> Float[Tensor, "n_texts 2"]:
    """Sum of the row scores and number of rows of each text."""
    sums = torch.zeros(place.n_texts, 2, device=scores.device)
    return sums.index_add_(0, place.text, torch.stack([scores, torch.ones_like(scores)], 1))
