"""Choose the latents that fire on what is to be forgotten and not on what is to be kept.

The rule is CRISP's (Ashuach et al. 2025, arXiv:2508.13650, checked against its code), with rates in
the place of counts, so that sets of different size do not rank by size:

    Δ_j = rate_forget(j) - rate_retain(j),   ρ_j = mean_forget(z_j) / (mean_retain(z_j) + ε).

The first `pool` · k latents by Δ are looked at, those with ρ < min_ratio are dropped, k are kept.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.unlearn.plan import PlannedLatent
from saetools.unlearn.rows import Row, make_batch

__all__ = ["Evidence", "Selected", "choose_latents", "read_evidence", "read_latents"]

_BATCH = 32
_EPS = 1e-6


@dataclass(frozen=True)
class Evidence:
    """How latents fire on two sets, one entry a latent.

    Args:
        forget_rate: share of forget tokens on which each fires.
        retain_rate: the same of retain tokens.
        forget_mean: mean activation on forget tokens, silent ones included.
        retain_mean: the same on retain tokens.
    """

    forget_rate: Float[Tensor, " n_latents"]
    retain_rate: Float[Tensor, " n_latents"]
    forget_mean: Float[Tensor, " n_latents"]
    retain_mean: Float[Tensor, " n_latents"]

    @property
    def ratio(self) -> Float[Tensor, " n_latents"]:
        """ρ: mean activation on forget tokens by that on retain tokens."""
        return self.forget_mean / (self.retain_mean + _EPS)


@dataclass(frozen=True)
class Selected:
    """Chosen latents of one SAE, and why the others were not."""

    latents: tuple[PlannedLatent, ...]
    rejected: dict[str, int]


def read_latents(
    model: SubjectModel, sae: SAE, rows: Sequence[Row], *, hook_name: str
) -> tuple[Float[Tensor, " n_latents"], Float[Tensor, " n_latents"]]:
    """Rate and mean activation of every latent over the content tokens of rows."""
    fires = torch.zeros(sae.config.n_latents, device=sae.device)
    total = torch.zeros_like(fires)
    n_tokens = 0
    for start in range(0, len(rows), _BATCH):
        batch = make_batch(model, rows[start : start + _BATCH])
        acts = model.activations(batch.tokens, [hook_name])[hook_name]
        x = acts[batch.tokens.content].to(sae.device, torch.float32)  # (n, d_in)
        latents = sae.encode(x)
        hit = latents.active.to(fires.dtype).flatten()
        fires.scatter_add_(0, latents.indices.flatten(), hit)
        total.scatter_add_(0, latents.indices.flatten(), latents.values.flatten())
        n_tokens += len(x)
    return fires / max(n_tokens, 1), total / max(n_tokens, 1)


@torch.no_grad()
def read_evidence(
    model: SubjectModel,
    sae: SAE,
    *,
    forget: Sequence[Row],
    retain: Sequence[Row],
    hook_name: str,
) -> Evidence:
    """How every latent fires on the content tokens of both sets."""
    forget_rate, forget_mean = read_latents(model, sae, forget, hook_name=hook_name)
    retain_rate, retain_mean = read_latents(model, sae, retain, hook_name=hook_name)
    return Evidence(forget_rate, retain_rate, forget_mean, retain_mean)


def choose_latents(
    evidence: Evidence, *, hook_name: str, k: int, min_ratio: float, pool: int = 10
) -> Selected:
    """The k latents by the rule above, best first.

    Raises:
        ConfigError: none passes; the message says which threshold excluded how many.
    """
    delta = evidence.forget_rate - evidence.retain_rate
    ratio = evidence.ratio
    why: Counter[str] = Counter()
    chosen: list[int] = []
    looked_at = 0
    for latent in delta.argsort(descending=True, stable=True).tolist():
        if evidence.forget_rate[latent] == 0:
            why["never fires on forget tokens"] += 1
        elif delta[latent] <= 0:
            why["fires on retain tokens as often"] += 1
        elif len(chosen) >= k or looked_at >= pool * k:
            why[f"beyond the first {k} (or the pool of {pool * k})"] += 1
        else:
            looked_at += 1
            if ratio[latent] < min_ratio:
                why[f"ratio below {min_ratio:g}"] += 1
            else:
                chosen.append(latent)
    if not chosen:
        told = "; ".join(f"{n} {reason}" for reason, n in why.items())
        raise ConfigError(
            f"no latent at {hook_name} is left to act on: of {len(delta)}, {told}. Best ratio of "
            f"those that fire on forget tokens: {float(ratio.max()):.3g}; lower min_ratio, raise k,"
            " or use an SAE that separates the two sets"
        )
    return Selected(tuple(_planned(evidence, latent, hook_name) for latent in chosen), dict(why))


def _planned(evidence: Evidence, latent: int, hook_name: str) -> PlannedLatent:
    return PlannedLatent(
        hook_name,
        latent,
        forget_rate=float(evidence.forget_rate[latent]),
        retain_rate=float(evidence.retain_rate[latent]),
        ratio=float(evidence.ratio[latent]),
    )
