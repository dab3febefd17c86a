"""Concept steerer: a vector is added to every token, decoded from the codes of concept prompts.

    position    V_p = λ · mean over prompts of ReLU(pre-activations of H_p) · W_dec, added at place
                p; without top-k, as in the paper; one concept prompt gives exactly its vectors
    broadcast   our variant: λ · mean latents of the concept, the most contrastive ones only, added
                at every place
    activation  the control of both without an SAE: λ · (mean of H − b_dec), added at every place

λ < 0 removes, λ > 0 adds, λ = 0 changes not a bit. Kim and Ghadiyaram 2025 (arXiv:2501.19066).
Places past the end of the concept prompts keep their rows. Nothing here looks at what it edits, so
texts without the concept are moved as well.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from saetools.erase.base import ERASERS, Learned
from saetools.erase.latent_stats import latent_stats
from saetools.erase.latents import LatentEraser
from saetools.erase.rows import LabelledRows, Place
from saetools.erase.select import SelectConfig
from saetools.sae import SAE

__all__ = ["Steerer", "SteererConfig"]

_CHUNK = 1024


class SteererConfig(SelectConfig):
    """The paper's script removes with λ = -0.5."""

    variant: Literal["broadcast", "position", "activation"] = Field(
        default="broadcast", description="our variant, the paper's, or plain activation addition"
    )
    strength: float = Field(default=-1.0, description="λ; below 0 removes")


@ERASERS.register("steerer")
class Steerer(LatentEraser):
    """Adds the concept's decoded codes, negatively to remove it."""

    Config = SteererConfig
    config: SteererConfig
    keeps_rest = False
    by_text = True  # the place of a row in its text matters

    @classmethod
    def learn(cls, rows: LabelledRows, config: Any, sae: SAE | None) -> Learned:
        """The vectors; without a choice of latents where the variant has none."""
        assert sae is not None
        if config.variant == "broadcast":
            return super().learn(rows, config, sae)
        forget = rows.x[rows.forget]
        if config.variant == "activation":
            vectors = (forget.mean(0) - sae.b_dec.detach().float().cpu()).unsqueeze(0)
        else:
            vectors = _by_place(sae, forget, rows.place.pos[rows.forget])
        figures = {"length of the vector, mean over places": float(vectors.norm(dim=1).mean())}
        none = torch.empty(0, dtype=torch.int64)
        tensors = {"latents": none, "scale": torch.ones(()), "vectors": vectors}
        return Learned(tensors, figures=figures)

    @classmethod
    def describe(
        cls,
        latents: Int[Tensor, " m"],
        rows: LabelledRows,
        config: Any,  # noqa: ARG003
        sae: SAE,
    ) -> Mapping[str, Tensor]:
        """The vector of these latents: their mean activations on the concept, decoded."""
        means = latent_stats(sae, rows.x[rows.forget]).mean[latents]
        return {"vectors": (means @ sae.W_dec.detach()[latents].float().cpu()).unsqueeze(0)}

    @classmethod
    def explain(cls, tensors: Mapping[str, Tensor]) -> Mapping[str, int | float]:
        """How long the vector is."""
        return {"length of the vector": float(tensors["vectors"].norm())}

    def new_activations(self, old: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Latents are not read; see `apply`."""
        return old

    def apply(self, x: Float[Tensor, "n d_in"], place: Place) -> Float[Tensor, "n d_in"]:
        """Add the vector of each row's place."""
        factor = self.config.strength * self.tensors["scale"]
        if self.config.strength == 0 or len(x) == 0:
            return x
        vectors = self.tensors["vectors"]
        if self.config.variant != "position":
            return x + factor * vectors[0]
        inside = (place.pos < len(vectors)).unsqueeze(-1)
        return torch.where(inside, x + factor * vectors[place.pos.clamp(max=len(vectors) - 1)], x)


def _by_place(sae: SAE, x: Tensor, pos: Tensor) -> Float[Tensor, "n_places d_in"]:
    """Mean over prompts of the decoded codes at each place, without selection."""
    n_places = int(pos.max()) + 1
    total = torch.zeros(n_places, sae.d_out)
    for start in range(0, len(x), _CHUNK):
        with torch.no_grad():
            codes = sae.pre_acts(x[start : start + _CHUNK].to(sae.device).float()).relu()
            decoded = (codes @ sae.W_dec.detach()).float().cpu()
        total.index_add_(0, pos[start : start + _CHUNK], decoded)
    return total / torch.bincount(pos, minlength=n_places).unsqueeze(1)
