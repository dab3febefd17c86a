"""The result of an unlearning: an ordinary model with other weights, and what was done to it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from saetools.errors import ConfigError
from saetools.models import LanguageModel, TextEncoder, from_hf
from saetools.models.base import SubjectModel
from saetools.models.pooling import Pooling
from saetools.models.text_encoder import HFTextEncoder
from saetools.unlearn.base import Adapter
from saetools.unlearn.export import save_adapter, save_model
from saetools.unlearn.guard import GuardReading
from saetools.unlearn.plan import Plan

__all__ = ["EditReport", "Unlearned", "copied", "weight_changes"]


@dataclass(frozen=True)
class WeightChange:
    """How one weight tensor changed.

    Args:
        name: of the tensor.
        norm: Frobenius norm of the change.
        relative: the same, by the norm of the tensor before.
        n_changed: number of entries that differ.
    """

    name: str
    norm: float
    relative: float
    n_changed: int


@dataclass(frozen=True)
class EditReport:
    """What was done.

    Args:
        method: its name.
        config: its settings, resolved.
        plan: what it set out to do.
        model: name and fingerprint of the original, and the fingerprint of the edited model.
        seconds: wall time of the fit.
        changes: the weight tensors that changed.
        losses: of the training, by step.
        facts: what else the method tells.
        guard: perplexity before and after; None for an encoder.
        request: what was asked for, as `describe_request` tells it; {} if it is unknown.
    """

    method: str
    config: Mapping[str, Any]
    plan: Plan
    model: Mapping[str, str]
    seconds: float
    changes: tuple[WeightChange, ...]
    losses: tuple[Mapping[str, float], ...]
    facts: Mapping[str, Any]
    guard: GuardReading | None
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def edit_norm(self) -> float:
        """Frobenius norm of the change of all weights."""
        return float(sum(change.norm**2 for change in self.changes) ** 0.5)

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        guard = None
        if self.guard is not None:
            guard = {**asdict(self.guard), "perplexity_ratio": self.guard.ratio}
        return {
            "method": self.method,
            "config": dict(self.config),
            "plan": self.plan.as_json(),
            "model": dict(self.model),
            "seconds": self.seconds,
            "edit_norm": self.edit_norm,
            "changes": [asdict(change) for change in self.changes],
            "losses": [dict(step) for step in self.losses],
            "facts": dict(self.facts),
            "guard": guard,
            "request": dict(self.request),
        }


@dataclass(frozen=True)
class Unlearned:
    """A model that has been edited for good.

    Args:
        model: the edited model; the original is as it was.
        report: what was done.
        adapter: the same edit as an adapter, where the method has one.
    """

    model: SubjectModel
    report: EditReport
    adapter: Adapter | None = None

    def __str__(self) -> str:
        report = self.report
        guard = "" if report.guard is None else f", perplexity times {report.guard.ratio:.3g}"
        return (
            f"{self.model.name} by {report.method}: {len(report.changes)} weight tensors changed "
            f"by {report.edit_norm:.3g} in all, {report.seconds:.0f} s{guard}; judge(...) says "
            "what that forgot"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"

    def save(self, folder: str | Path) -> Path:
        """Write a model folder that plain transformers loads, with a card and unlearning.json."""
        return save_model(self.model, folder, report=self.report.as_json())

    def save_adapter(self, folder: str | Path) -> Path:
        """Write the edit as a PEFT adapter of the original.

        Raises:
            ConfigError: the method makes none.
        """
        if self.adapter is None:
            raise ConfigError(
                f"{self.report.method} changes weights and makes no adapter; save() writes the "
                "whole model, and crisp makes adapters"
            )
        return save_adapter(self.adapter.config, self.adapter.tensors, folder)


def copied(model: SubjectModel) -> SubjectModel:
    """A subject model with weights of its own.

    Raises:
        ConfigError: an intervention is open on the model.
    """
    if any(m._forward_hooks or m._forward_pre_hooks for m in model.hf.modules()):
        raise ConfigError(
            f"asked to unlearn while an intervention is open on {model.name}; call it outside the "
            "block: an edit of weights on top of a hook is neither"
        )
    hf = copy.deepcopy(model.hf)
    name = f"{model.name} unlearned"
    if isinstance(model, HFTextEncoder):
        pooling = Pooling(model.pooling, model.normalize, model.ctx_len)
        return HFTextEncoder(hf, model.tokenizer, name=name, pooling=pooling)
    assert isinstance(model, LanguageModel | TextEncoder)
    return from_hf(hf, model.tokenizer, kind=model.kind, name=name)


def weight_changes(before: SubjectModel, after: SubjectModel) -> tuple[WeightChange, ...]:
    """The weight tensors that differ; one that the original lacks changed from zeros."""
    old = dict(before.hf.named_parameters())
    changes: list[WeightChange] = []
    for name, weight in after.hf.named_parameters():
        now = weight.detach().double().cpu()
        held = old.get(name)
        was = now * 0 if held is None else held.detach().double().cpu()
        moved = now - was
        n_changed = int((moved != 0).sum())
        if n_changed:
            size = float(was.norm())
            norm = float(moved.norm())
            changes.append(WeightChange(name, norm, norm / size if size else 0.0, n_changed))
    return tuple(changes)


def top_changes(changes: Sequence[WeightChange], n: int = 10) -> tuple[WeightChange, ...]:
    """Those that moved most by their own norm."""
    return tuple(sorted(changes, key=lambda change: -change.relative)[:n])
