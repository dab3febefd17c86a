"""Put the outcome of a concept ablation into a few sentences, by rule.

The interval decides, not the value: a concept counts as removed only where the ablated probe's
interval reaches chance (AUROC 0.5) and lies below the clean one's, and as readable where it stays
above chance.
"""

from collections.abc import Sequence
from typing import Literal

from saetools.evaluate.ablation.report import Condition, Place, ProbeRow
from saetools.models.base import ModelKind

__all__ = ["Outcome", "outcome", "verdict"]

Outcome = Literal["no_baseline", "kept", "reduced", "removed", "inconclusive"]

_CHANCE = 0.5
_NOTICEABLE = 0.02
_MEANING = {
    "kept": "no noticeable drop, so nothing was removed linearly",
    "reduced": "the concept is weaker, but still there to be read",
    "removed": "no better than chance, so no linear trace of it is left there",
    "inconclusive": "too few held-out documents to tell",
}


def outcome(clean: ProbeRow, ablated: ProbeRow, drop: ProbeRow) -> Outcome:
    """What the AUROCs of fresh probes, clean and ablated, and their paired difference say."""
    if not clean.low > _CHANCE:
        return "no_baseline"
    if ablated.low > _CHANCE:
        return "reduced" if drop.low > 0 and drop.value >= _NOTICEABLE else "kept"
    return "removed" if ablated.high < clean.low else "inconclusive"


def verdict(concept: str, rows: Sequence[ProbeRow], *, kind: ModelKind) -> str:
    """What the figures say of the model's final vector, and in short of the hook itself."""
    where = "final embedding" if kind == "text_encoder" else "last residual"
    clean, ablated = (
        _find(rows, "clean", "final", "auroc"),
        _find(rows, "ablated", "final", "auroc"),
    )
    found = outcome(clean, ablated, _find(rows, "ablated", "final", "auroc_drop"))
    if found == "no_baseline":
        return (
            f"No conclusion about '{concept}': even before ablation a probe of the {where} reads "
            f"it at AUROC {clean}, which may be chance."
        )
    hook_before, hook = (
        _find(rows, "clean", "hook", "auroc"),
        _find(rows, "ablated", "hook", "auroc"),
    )
    others = _find(rows, "ablated", "final", "cosine_other")
    return " ".join(
        [
            f"After ablation a fresh probe of the {where} reads '{concept}' at AUROC {ablated}, "
            f"before at {clean}: {_MEANING[found]}.",
            f"At the hook itself: {hook}, before {hook_before}.",
            *_control(rows, found),
            f"Other documents keep a mean cosine of {others.value:.3f} to their clean vector.",
        ]
    )


def _control(rows: Sequence[ProbeRow], found: Outcome) -> list[str]:
    """How the same number of other latents compares; nothing if there were none to compare with."""
    if not any(row.condition == "control" for row in rows):
        return []
    control = _find(rows, "control", "final", "auroc")
    text = f"Control latents that fire as often leave it at {control}"
    if found not in ("reduced", "removed"):
        return [text + "."]
    beyond = _find(rows, "ablated", "final", "auroc_beyond_control")
    if beyond.low > 0:
        return [text + ", so the effect belongs to the chosen latents."]
    return [text + ", so the effect may belong to any latents."]


def _find(rows: Sequence[ProbeRow], condition: Condition, place: Place, metric: str) -> ProbeRow:
    return next(
        row for row in rows if (row.condition, row.place, row.metric) == (condition, place, metric)
    )
