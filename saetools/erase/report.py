"""What fitting an eraser found: the same report for all of them.

It says what was selected and on which evidence, what was rejected and why, and how large the edit
is on the rows that it was fitted on. It does not say that the concept is gone: that takes a fresh
probe on other texts (`saetools.evaluate.erasure`).
"""

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["EraserReport"]

_SHOWN = 12


@dataclass(frozen=True)
class EraserReport:
    """What was fitted.

    Args:
        kind: name of the eraser.
        hook_name: where it acts, if known.
        model: fingerprint of the model it was fitted in, if known.
        n_forget_rows, n_retain_rows, n_forget_texts, n_retain_texts: what it was fitted on.
        evidence: one entry for each selected latent or direction, best first, all with the same
            keys; of a latent its firing rates and means on both sides and its score.
        thresholds: what an entry had to pass, by name.
        rejected: how many latents each reason left out.
        forget_change, retain_change: mean of ‖change‖ / ‖x‖ over the rows of each side.
        retain_touched: share of the retain rows that change at all, 0–1; lower is better.
        figures: further numbers of this eraser.
        notes: what a reader has to know.
    """

    kind: str
    hook_name: str | None
    model: str | None
    n_forget_rows: int
    n_retain_rows: int
    n_forget_texts: int
    n_retain_texts: int
    evidence: tuple[Mapping[str, int | float], ...] = ()
    thresholds: Mapping[str, int | float] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    forget_change: float = math.nan
    retain_change: float = math.nan
    retain_touched: float = math.nan
    figures: Mapping[str, int | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same as plain data; NaN becomes None where it is written."""
        return {**asdict(self), "evidence": [dict(row) for row in self.evidence]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "EraserReport":
        """The report that `as_json` gave."""
        plain: dict[str, Any] = {
            k: math.nan if v is None and k in _NUMBERS else v for k, v in data.items()
        }
        plain["evidence"] = tuple(dict(row) for row in plain["evidence"])
        plain["notes"] = tuple(plain["notes"])
        return EraserReport(**plain)

    def __str__(self) -> str:
        lines = [
            f"{self.kind} at {self.hook_name or 'an unnamed hook'}, fitted on "
            f"{self.n_forget_texts:,} texts to forget ({self.n_forget_rows:,} rows) and "
            f"{self.n_retain_texts:,} to retain ({self.n_retain_rows:,} rows)",
            f"moves forget rows by {self.forget_change:.3g} of their length, retain rows by "
            f"{self.retain_change:.3g}; {self.retain_touched:.1%} of the retain rows change at all",
        ]
        if self.evidence:
            lines.append("  ".join(f"{key:>13}" for key in self.evidence[0]))
        lines += [
            "  ".join(f"{_figure(value):>13}" for value in row.values())
            for row in self.evidence[:_SHOWN]
        ]
        if len(self.evidence) > _SHOWN:
            lines.append(f"... and {len(self.evidence) - _SHOWN} more")
        facts = {**self.thresholds, **self.figures}
        lines += [f"{name}: {_figure(value)}" for name, value in facts.items()]
        lines += [f"left out, {reason}: {n:,}" for reason, n in self.rejected.items()]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


_NUMBERS = ("forget_change", "retain_change", "retain_touched")


def _figure(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
