"""SAFREE: the tokens of a text that carry a concept are found one by one and projected.

    C: pooled embeddings of concept phrases; P_C the projection on their span
    p_i: pooled embedding of the text without token i; P_I the projection on the span of all p_i
    d_i = ‖(I − P_C) p_i‖, large where leaving token i out leads away from the concept
    token i is a trigger if d_i ≥ (1 + α) · mean of the other d_j;  e_i -> (I − P_C) P_I e_i

Yoon et al. 2025 (arXiv:2410.12761). In the paper p_i takes one run of the encoder for each token
(`saetools.erase.masked` does that); an edit inside a forward pass cannot, so there p_i is the mean
of the other rows of the text, whose span holds every e_i: P_I is then the identity. A text of one
token has no others to compare with; it is a trigger if what is left of it outside the concept is
less than of 99 % of the retain rows. α = 0.01 flags tokens of harmless texts too: the report says
how many, and alpha=None calibrates.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from saetools.erase.base import ERASERS, Eraser, EraserConfig, Learned
from saetools.erase.rows import LabelledRows, Place, text_means
from saetools.errors import ConfigError
from saetools.sae import SAE

__all__ = ["Safree", "SafreeConfig"]


class SafreeConfig(EraserConfig):
    """α as in the paper; many phrases span everything, so the subspace has a largest rank."""

    alpha: float | None = Field(
        default=0.01, ge=0, description="how far above the others; null: calibrate on retain texts"
    )
    n_directions: int = Field(default=8, ge=1, description="rank of the concept's subspace at most")
    max_flag_fraction: float = Field(
        default=0.05, gt=0, lt=1, description="alpha null: share of retain rows that may be flagged"
    )


@ERASERS.register("safree")
class Safree(Eraser):
    """Projects trigger tokens out of the concept's subspace; all others keep their bits."""

    Config = SafreeConfig
    by_text = True

    @classmethod
    def learn(cls, rows: LabelledRows, config: Any, sae: SAE | None) -> Learned:  # noqa: ARG003
        """The concept's subspace from the texts to forget, and α."""
        phrases = text_means(rows).x[rows.text_labels > 0].double()
        basis, sizes, _ = torch.linalg.svd(phrases.T, full_matrices=False)
        kept = sizes > sizes.max() * 1e-6
        basis = basis[:, kept][:, : config.n_directions]
        if basis.shape[1] >= rows.d_in:
            raise ConfigError(
                f"the concept phrases span all {rows.d_in} dimensions, and nothing would be left; "
                "lower n_directions"
            )
        excess, several = _excess(rows.x, rows.place, basis)
        neutral = several & ~rows.forget
        alpha = config.alpha
        if alpha is None:
            level = 1 - config.max_flag_fraction
            alpha = 0.01
            if bool(neutral.any()):
                alpha = float(excess[neutral].quantile(level, interpolation="higher"))
            alpha = max(alpha, 0.0) + 1e-6
        outside = _outside(rows.x[~rows.forget].double(), basis)
        tensors = {
            "basis": basis,
            "alpha": torch.tensor(alpha, dtype=torch.float64),
            "alone_below": outside.quantile(0.01),
        }
        flagged = excess >= alpha
        figures = {
            "alpha": alpha,
            "rank": basis.shape[1],
            "share of forget rows flagged": _mean(flagged[several & rows.forget]),
            "share of retain rows flagged": _mean(flagged[neutral]),
        }
        evidence = tuple(
            {"direction": i, "singular_value": float(size)}
            for i, size in enumerate(sizes[: basis.shape[1]])
        )
        left_out = {"phrase directions beyond n_directions": int(kept.sum()) - basis.shape[1]}
        return Learned(tensors, evidence, {"alpha": alpha}, left_out, figures)

    def apply(self, x: Float[Tensor, "n d_in"], place: Place) -> Float[Tensor, "n d_in"]:
        """Project the triggers, found by leaving rows out."""
        if len(x) == 0:
            return x
        triggers = self.triggers(x, place)
        basis = self.tensors["basis"]
        rows = x.double()
        cleaned = (rows - rows @ basis @ basis.T).float()
        return torch.where(triggers.unsqueeze(-1), cleaned, x)

    def triggers(self, x: Float[Tensor, "n d_in"], place: Place) -> Bool[Tensor, " n"]:
        """Which rows would be projected."""
        excess, several = _excess(x, place, self.tensors["basis"])
        alone = _outside(x.double(), self.tensors["basis"]) < self.tensors["alone_below"]
        return torch.where(several, excess >= self.tensors["alpha"], alone)

    def edit_text(
        self, x: Float[Tensor, "n d_in"], masked: Float[Tensor, "n d_in"]
    ) -> tuple[Float[Tensor, "n d_in"], Bool[Tensor, " n"]]:
        """The paper's rule for one text: its edited rows, and which were triggers.

        Args:
            x: rows of the text's tokens.
            masked: pooled embedding of the text with each of them masked.
        """
        basis = self.tensors["basis"]
        rows, others = x.double(), masked.double()
        if len(x) < 2:
            triggers = self.triggers(x, Place.alone(len(x), x.device))
            span = torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
        else:
            distance = (others - others @ basis @ basis.T).norm(dim=1)
            rest = (distance.sum() - distance) / (len(x) - 1)
            triggers = distance >= (1 + self.tensors["alpha"]) * rest
            directions, sizes, _ = torch.linalg.svd(others.T, full_matrices=False)
            directions = directions[:, sizes > sizes.max() * 1e-6]
            span = directions @ directions.T
        inside = rows @ span
        cleaned = (inside - inside @ basis @ basis.T).float()
        return torch.where(triggers.unsqueeze(-1), cleaned, x.float()), triggers


def _excess(
    x: Float[Tensor, "n d_in"], place: Place, basis: Float[Tensor, "d_in rank"]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """d_i over the mean of the others' less 1, and which rows have others in their text."""
    rows = x.double()
    n_texts, text = place.n_texts, place.text
    counts = torch.bincount(text, minlength=n_texts)[text]
    total = rows.new_zeros(n_texts, rows.shape[1]).index_add_(0, text, rows)[text]
    several = counts > 1
    others = (total - rows) / (counts - 1).clamp_min(1).unsqueeze(-1)
    distance = (others - others @ basis @ basis.T).norm(dim=1)
    sums = distance.new_zeros(n_texts).index_add_(0, text, distance)[text]
    rest = (sums - distance) / (counts - 1).clamp_min(1)
    return distance / rest.clamp_min(1e-12) - 1, several


def _outside(rows: Float[Tensor, "n d_in"], basis: Tensor) -> Float[Tensor, " n"]:
    """Share of each row's length that lies outside the concept's subspace."""
    rest = rows - rows @ basis @ basis.T
    share: Tensor = rest.norm(dim=1) / rows.norm(dim=1).clamp_min(1e-12)
    return share


def _mean(flags: Tensor) -> float:
    return float(flags.double().mean()) if len(flags) else 0.0
