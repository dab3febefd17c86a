"""Where to put the threshold of a condition on texts, from texts that should meet it and others.

Interpret-then-Deactivate (arXiv:2503.09446) takes 0.99 of the smallest score among the targets. A
minimum hangs on one text, so a low quantile is the default here, and what the threshold does to
the other texts is reported beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.conditions import Condition, Statistic, statistic_of
from saetools.intervene.triggers import Trigger
from saetools.models.base import SubjectModel

__all__ = ["Calibration", "calibrate", "text_statistics"]


@dataclass(frozen=True)
class Calibration:
    """A condition, and how often it is met.

    Args:
        condition: with its threshold.
        targets_met_fraction: of the texts that should meet it, 0-1; higher is better.
        others_met_fraction: of the others, 0-1; lower is better. These are the texts that it was
            calibrated beside, so measure it on fresh ones before you rely on it.
        auroc: chance that a target's statistic is above another text's; 1 is perfect.
        n_targets, n_others: texts of each kind.
    """

    condition: Condition
    targets_met_fraction: float
    others_met_fraction: float
    auroc: float
    n_targets: int
    n_others: int

    def __str__(self) -> str:
        return (
            f"threshold {self.condition.threshold:.4g}: met by {self.targets_met_fraction:.1%} of "
            f"{self.n_targets} target texts and {self.others_met_fraction:.1%} of {self.n_others} "
            f"others (AUROC {self.auroc:.3f})"
        )


def calibrate(
    model: SubjectModel,
    trigger: Trigger,
    *,
    targets: Sequence[str],
    others: Sequence[str],
    hook_name: str | None = None,
    statistic: Statistic = "mean",
    level: float = 0.0,
    quantile: float = 0.01,
    margin: float = 0.99,
) -> Calibration:
    """A condition on whole texts that (nearly) all targets meet.

    Args:
        targets: texts that it should fire on.
        others: texts that should pass untouched.
        hook_name: where the intervention acts, for a trigger without a hook of its own.
        statistic, level: see `Condition`.
        quantile: share of the targets that may fall below; 0 is the paper's minimum.
        margin: what the quantile is multiplied by, so that targets on it still fire.
    """
    if not targets or not others:
        raise ConfigError(
            f"calibrating needs texts of both kinds; got {len(targets)} targets and {len(others)} "
            "others"
        )
    found = [
        text_statistics(
            model, trigger, texts, hook_name=hook_name, statistic=statistic, level=level
        )
        for texts in (targets, others)
    ]
    # Where scores are negative (a probe's), a factor below 1 would raise them.
    low = float(found[0].quantile(quantile))
    threshold = low - (1 - margin) * abs(low)
    above = (found[0].unsqueeze(1) > found[1]).double()
    ties = (found[0].unsqueeze(1) == found[1]).double()
    return Calibration(
        Condition(trigger, threshold, "text", statistic, level),
        float((found[0] > threshold).double().mean()),
        float((found[1] > threshold).double().mean()),
        float((above + ties / 2).mean()),
        len(targets),
        len(others),
    )


def text_statistics(
    model: SubjectModel,
    trigger: Trigger,
    texts: Sequence[str],
    *,
    hook_name: str | None = None,
    statistic: Statistic = "mean",
    level: float = 0.0,
    batch: int = 32,
) -> Float[Tensor, " n_texts"]:
    """The statistic of each text's content tokens, as a condition sees it; float64, on the CPU."""
    scorer = trigger.placed(model, hook_name or "", strict=True)
    condition = Condition(trigger, 0.0, "text", statistic, level)
    parts = []
    for start in range(0, len(texts), batch):
        tokens = model.tokenize(texts[start : start + batch])
        x = model.activations(tokens, [scorer.hook_name])[scorer.hook_name]
        scores = torch.zeros(tokens.ids.shape, dtype=torch.float64, device=x.device)
        scores[tokens.content] = scorer(x[tokens.content]).detach().double().to(x.device)
        parts.append(statistic_of(condition, scores, tokens.content).cpu())
    return torch.cat(parts)
