"""What an intervention did: counted while it runs, read with `summary()`.

Counting happens on the device of the SAE and never waits for it; `summary()` does the waiting.
"""

import html
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Firing", "LatentEffect", "Probe", "ProbeSummary"]


@dataclass(frozen=True)
class LatentEffect:
    """How often one latent was met and how much changing it moved the activation.

    Args:
        latent: its index.
        n_tokens: tokens that the intervention acted on.
        fired_fraction: share of them on which it fired before the intervention, 0-1; NaN where the
            intervention does not encode (steering).
        mean_activation: its mean activation over the tokens on which it fired, before the
            intervention; NaN where it never fired or was not measured.
        mean_relative_change: mean over all tokens of the length of its change divided by the length
            of the activation.
    """

    latent: int
    n_tokens: int
    fired_fraction: float
    mean_activation: float
    mean_relative_change: float


@dataclass(frozen=True)
class Firing:
    """How often a condition held.

    Args:
        n_tokens: tokens at the intervention's positions.
        n_tokens_met: those on which it held.
        n_texts: texts of the passes that began one: prompts, and whole texts outside generation.
        n_texts_met: those in which it held on at least one token.
    """

    n_tokens: int
    n_tokens_met: int
    n_texts: int
    n_texts_met: int

    def __str__(self) -> str:
        return (
            f"fired on {self.n_tokens_met:,} of {self.n_tokens:,} tokens, in "
            f"{self.n_texts_met:,} of {self.n_texts:,} texts"
        )


@dataclass(frozen=True)
class ProbeSummary:
    """What an intervention did in all.

    Args:
        kind: "steer", "ablate", "splice", or an operation such as "clamp".
        hook_name: where.
        n_tokens: tokens that it acted on: those at its positions, generated ones included, on
            which its condition held.
        mean_relative_change: mean of ‖change‖ / ‖activation‖ over them, all latents together.
        latents: one entry a latent; empty for a splice, which concerns all latents, and along a
            direction.
        fired: how often its condition held; None without a condition.
    """

    kind: str
    hook_name: str
    n_tokens: int
    mean_relative_change: float
    latents: tuple[LatentEffect, ...]
    fired: Firing | None = None

    def __str__(self) -> str:
        head = (
            f"{self.kind} at {self.hook_name}: {self.n_tokens:,} tokens, "
            f"mean change {self.mean_relative_change:.3g} of the activation's length"
        )
        lines = [head] if self.fired is None else [head, str(self.fired)]
        if self.latents:
            lines.append(f"{'latent':>8} {'fired':>8} {'activation':>11} {'change':>8}")
        lines += [
            f"{row.latent:>8} {_figure(row.fired_fraction):>8} "
            f"{_figure(row.mean_activation):>11} {_figure(row.mean_relative_change):>8}"
            for row in self.latents
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


class Probe:
    """Counts what an intervention does; the context managers yield one.

    Args:
        kind: "steer", "ablate", "splice", or an operation such as "clamp".
        hook_name: where the intervention acts.
        latents: the latents it concerns, (m,); empty for a splice.
    """

    def __init__(self, kind: str, hook_name: str, latents: Int[Tensor, " m"]) -> None:
        self.kind = kind
        self.hook_name = hook_name
        self.latents = latents.cpu()
        self.n_tokens = 0
        sums = torch.zeros(len(latents), dtype=torch.float64, device=latents.device)
        self._fired, self._activation, self._change = sums, sums.clone(), sums.clone()
        self._total_change = torch.zeros((), dtype=torch.float64, device=latents.device)
        self._measured = False
        self._fired_counts: Tensor | None = None

    def record(
        self,
        x: Float[Tensor, "n d_in"],
        *,
        total_change: Float[Tensor, " n"],
        changes: Float[Tensor, "n m"] | None = None,
        activations: Float[Tensor, "n m"] | None = None,
    ) -> None:
        """Add the tokens of one edit.

        Args:
            x: activations before the edit.
            total_change: length of each token's change.
            changes: length of each latent's part of it.
            activations: the latents' activations before the edit, if it encodes.
        """
        self.n_tokens += len(x)
        lengths = x.detach().norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)  # (n,)
        self._total_change += (total_change.detach() / lengths).sum(dtype=torch.float64)
        if changes is not None:
            relative = changes.detach().abs() / lengths.unsqueeze(-1)
            self._change += relative.sum(0, dtype=torch.float64)
        if activations is not None:
            self._measured = True
            self._fired += (activations.detach() != 0).sum(0)
            self._activation += activations.detach().sum(0, dtype=torch.float64)

    def record_condition(
        self,
        chosen: Bool[Tensor, "batch pos"],
        met: Bool[Tensor, "batch pos"],
        *,
        whole_texts: bool,
    ) -> None:
        """Add the tokens of one pass that were at its positions, and those that met the condition.

        Args:
            whole_texts: whether the rows are texts from their beginning on.
        """
        texts = (
            [chosen.any(1).sum(), met.any(1).sum()] if whole_texts else [chosen.new_zeros(())] * 2
        )
        counts = torch.stack([chosen.sum(), met.sum(), *(n.long() for n in texts)])
        held = self._fired_counts
        self._fired_counts = counts if held is None else held + counts

    def summary(self) -> ProbeSummary:
        """What happened so far."""
        n = self.n_tokens
        fired, activation = self._fired.tolist(), self._activation.tolist()
        rows = tuple(
            LatentEffect(
                latent=latent,
                n_tokens=n,
                fired_fraction=fired[i] / n if self._measured and n else math.nan,
                mean_activation=activation[i] / fired[i] if fired[i] else math.nan,
                mean_relative_change=change / n if n else math.nan,
            )
            for i, (latent, change) in enumerate(
                zip(self.latents.tolist(), self._change.tolist(), strict=True)
            )
        )
        total = float(self._total_change) / n if n else math.nan
        held = self._fired_counts
        condition = None if held is None else Firing(*held.tolist())
        return ProbeSummary(self.kind, self.hook_name, n, total, rows, condition)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"
