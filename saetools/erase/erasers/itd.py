"""Interpret-then-Deactivate: the concept's latents classify a text, and only such texts are edited.

    edit:   z_j -> value · z_j for the concept's latents
    score:  mean over a text's tokens of ‖x' − x‖² / d      the size of the edit itself
    a text is edited if its score is at least τ, and keeps its bits otherwise

Nan et al. 2025 (arXiv:2503.09446). Where their code errs or is brittle, this differs: the score
leaves the SAE's reconstruction error out, which flags badly reconstructed texts (theirs is in the
report beside ours, as an AUROC); τ is 0.99 times a low quantile of the targets' scores and not
their minimum; and latents are chosen by contrast. `latents_by="set_difference"` is the paper's
rule: the largest latents of each target text that are among no retain text's largest.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from saetools.erase.base import ERASERS, Learned
from saetools.erase.latent_stats import latent_rows, text_peaks, text_stats
from saetools.erase.latents import GatedEraser, Scored, text_scores
from saetools.erase.rows import LabelledRows
from saetools.erase.select import SelectConfig, Selection, select_latents
from saetools.errors import ConfigError
from saetools.sae import SAE

__all__ = ["Itd", "ItdConfig"]

_MARGIN = 0.99


class ItdConfig(SelectConfig):
    """The paper's code multiplies by -8; 0 switches off."""

    value: float = Field(default=0.0, le=1, description="what the latents are multiplied by")
    latents_by: Literal["contrast", "set_difference"] = Field(
        default="contrast", description="how latents are chosen: by score, or the paper's sets"
    )
    top: int = Field(
        default=32, ge=1, description="set_difference: so many largest latents of each text"
    )
    quantile: float = Field(
        default=0.01, ge=0, le=1, description="share of the target texts that τ may miss"
    )


@ERASERS.register("itd")
class Itd(GatedEraser):
    """Edits the texts that it takes for the concept's, and leaves all others as they are."""

    Config = ItdConfig
    config: ItdConfig

    @classmethod
    def choose(cls, rows: LabelledRows, config: Any, sae: SAE) -> Selection:
        """By contrast, or by the sets of the largest latents."""
        if config.latents_by == "contrast":
            return select_latents(sae, rows, config)
        return _set_difference(sae, rows, config)

    @classmethod
    def describe(
        cls, latents: Int[Tensor, " m"], rows: LabelledRows, config: Any, sae: SAE
    ) -> Mapping[str, Tensor]:
        """The score that a text has to reach."""
        scores = text_scores(_row_scores(sae, rows.x, latents, config.value), rows.place)
        targets = scores[rows.text_labels > 0]
        return {"gate": _MARGIN * targets.quantile(config.quantile)}

    @classmethod
    def learn(cls, rows: LabelledRows, config: Any, sae: SAE | None) -> Learned:
        """Choose, describe, and say how well the score tells the texts of the fit apart."""
        learned = super().learn(rows, config, sae)
        assert sae is not None
        latents, gate = learned.tensors["latents"], learned.tensors["gate"]
        change = _row_scores(sae, rows.x, latents, config.value)
        target = rows.text_labels > 0
        own = text_scores(change, rows.place)
        theirs = text_scores(_whole_scores(sae, rows.x, latents, config.value), rows.place)
        figures = {
            "text score that is edited": float(gate),
            "share of forget texts edited": float((own[target] >= gate).float().mean()),
            "share of retain texts edited": float((own[~target] >= gate).float().mean()),
            "auroc of the score, texts of the fit": _auroc(own, target),
            "auroc of the paper's score, texts of the fit": _auroc(theirs, target),
        }
        return learned._replace(figures=figures)

    def new_activations(self, old: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """A multiple of what they were."""
        return self.config.value * old

    def scored(self, x: Float[Tensor, "n d_in"]) -> Scored:
        """The changed rows, and the mean square of their change."""
        after = self.changed(x)
        return Scored(after, (after - x).square().mean(-1))


def _row_scores(sae: SAE, x: Tensor, latents: Tensor, value: float) -> Float[Tensor, " n"]:
    """Mean square of the change of each row."""
    change = (value - 1) * latent_rows(sae, x, latents)
    return (change @ sae.W_dec.detach()[latents].float().cpu()).square().mean(-1)


def _whole_scores(sae: SAE, x: Tensor, latents: Tensor, value: float) -> Float[Tensor, " n"]:
    """Mean square of x less the edited reconstruction: the paper's, which has the SAE's error."""
    change = (value - 1) * latent_rows(sae, x, latents)
    parts = []
    for start in range(0, len(x), 4096):
        rows = x[start : start + 4096].to(sae.device)
        edited = sae(rows).cpu() + change[start : start + 4096] @ sae.W_dec[latents].float().cpu()
        parts.append((edited - rows.cpu()).square().mean(-1))
    return torch.cat(parts).detach()


def _set_difference(sae: SAE, rows: LabelledRows, config: ItdConfig) -> Selection:
    """Latents among the largest of a target text and of no retain text, most frequent first."""
    counts = torch.zeros(2, sae.config.n_latents, dtype=torch.int64)
    first, n_top = 0, min(config.top, sae.config.n_latents)
    for peaks in text_peaks(sae, rows):
        largest = torch.zeros_like(peaks, dtype=torch.bool)
        values, places = peaks.topk(n_top, dim=1)
        largest.scatter_(1, places, values > 0)
        target = rows.text_labels[first : first + len(peaks)] > 0
        counts += torch.stack([largest[target].sum(0), largest[~target].sum(0)])
        first += len(peaks)
    candidate, kept = counts[0] > 0, counts[1] > 0
    chosen = torch.where(candidate & ~kept, counts[0], -1).argsort(descending=True, stable=True)
    chosen = chosen[: min(int((candidate & ~kept).sum()), config.n_latents)]
    if len(chosen) == 0:
        raise ConfigError(
            f"no latent was selected: all {int(candidate.sum()):,} latents that are among the "
            f"{n_top} largest of a target text are among those of a retain text too; lower top, "
            "give fewer retain texts, or use latents_by='contrast'"
        )
    forget, retain = (text_stats(sae, rows, forget=side) for side in (True, False))
    evidence = tuple(
        {
            "latent": int(i),
            "score": float(counts[0, i]),
            "forget_rate": float(forget.rate[i]),
            "retain_rate": float(retain.rate[i]),
            "forget_mean": float(forget.mean[i]),
            "retain_mean": float(retain.mean[i]),
        }
        for i in chosen
    )
    rejected = {"among the largest of a retain text": int((candidate & kept).sum())}
    return Selection(chosen, evidence, {"largest latents of a text": n_top}, rejected)


def _auroc(scores: Float[Tensor, " n"], positive: Tensor) -> float:
    """Chance that a positive scores above a negative; ties count half."""
    _, which, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    rank = (counts.cumsum(0).double() - (counts - 1) / 2)[which]
    n_up, n_down = int(positive.sum()), int((~positive).sum())
    return float((rank[positive].sum() - n_up * (n_up + 1) / 2) / (n_up * n_down))
