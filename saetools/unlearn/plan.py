"""What an unlearning is going to do, before anything is changed: a plan to be read.

A method that acts through SAEs says which latents it chose, on which evidence, by which thresholds,
and how many it rejected for which reason. Every method says which weights it will change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from rich.table import Table

from saetools.errors import ConfigError

__all__ = ["Plan", "PlannedLatent"]

_SHOWN = 20


@dataclass(frozen=True)
class PlannedLatent:
    """A latent that will be acted on, and why.

    Args:
        hook_name: where its SAE reads.
        latent: its index.
        forget_rate: share of the forget tokens on which it fires.
        retain_rate: the same of the retain tokens.
        ratio: its activation on forget tokens by that on retain tokens, summed, at equal counts.
        direction: -1 to drive it down, 1 to drive it up.
        words: tokens that its decoder row writes most, if they were looked at.
    """

    hook_name: str
    latent: int
    forget_rate: float
    retain_rate: float
    ratio: float
    direction: int = -1
    words: tuple[str, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "hook_name": self.hook_name,
            "latent": self.latent,
            "forget_rate": self.forget_rate,
            "retain_rate": self.retain_rate,
            "ratio": self.ratio,
            "direction": self.direction,
            "words": " ".join(self.words),
        }


@dataclass(frozen=True)
class Plan:
    """What a method will do.

    Args:
        method: its name.
        steps: what will be done, a sentence each.
        weights: names of the weight tensors that may change.
        latents: those to act on; () for a method without SAEs.
        thresholds: what a latent had to pass.
        rejected: how many latents were left out, by reason.
        facts: numbers of rows, steps and so on.
    """

    method: str
    steps: tuple[str, ...]
    weights: tuple[str, ...]
    latents: tuple[PlannedLatent, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of(self, hook_name: str) -> tuple[PlannedLatent, ...]:
        """The latents at a hook."""
        return tuple(one for one in self.latents if one.hook_name == hook_name)

    def with_latents(self, latents: tuple[PlannedLatent, ...]) -> "Plan":
        """The same plan with other latents, e.g. some taken out by hand, or a random control.

        Raises:
            ConfigError: none is left.
        """
        if not latents:
            raise ConfigError(f"a plan of {self.method} without a latent; keep at least one")
        return replace(self, latents=latents)

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "method": self.method,
            "steps": list(self.steps),
            "weights": list(self.weights),
            "latents": [latent.as_row() for latent in self.latents],
            "thresholds": dict(self.thresholds),
            "rejected": dict(self.rejected),
            "facts": dict(self.facts),
        }

    def lines(self) -> list[str]:
        """The plan in words, a line each."""
        lines = [f"{self.method}:", *(f"  {step}" for step in self.steps)]
        lines += [f"  {name}: {value}" for name, value in self.facts.items()]
        lines += [f"  threshold {name}: {value:g}" for name, value in self.thresholds.items()]
        lines += [f"  rejected {n:,} latents: {why}" for why, n in self.rejected.items() if n]
        shown = ", ".join(self.weights[:4]) + (", ..." if len(self.weights) > 4 else "")
        return [*lines, f"  changes {len(self.weights)} weight tensors: {shown}"]

    def table(self) -> Table:
        """The chosen latents as a table for a terminal."""
        table = Table(title="\n".join(self.lines()), title_justify="left")
        for name in ("hook", "latent", "forget", "retain", "ratio", "writes"):
            table.add_column(name)
        for one in self.latents[:_SHOWN]:
            rates = (f"{one.forget_rate:.3g}", f"{one.retain_rate:.3g}", f"{one.ratio:.3g}")
            table.add_row(one.hook_name, str(one.latent), *rates, " ".join(one.words))
        return table

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"
