"""Dose response: what an intervention brings and what it costs, over strengths.

For a language model each strength is asked three things: what it does to continuations of prompts
(the effect, whatever the caller counts there, and how repetitive they become), how unlikely these
are to the model as it is (perplexity), and what it does to texts that have nothing to do with the
concept (KL from the model as it is). For a text encoder: the effect on embeddings, and how far
those of neutral texts turn.

A strength is usable where every damage is within its limit. The default limit of KL, 0.1 nats a
token on neutral texts, is the one by which directions are chosen in the literature (Arditi et al.
2024, arXiv:2406.11717); repetition may rise by 0.1. Of the usable strengths the one with the
largest effect is chosen, the gentlest among equals.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saetools import progress
from saetools.errors import ConfigError
from saetools.intervene.dose_chart import dose_svg
from saetools.models.base import LanguageModel, TextEncoder, TokenBatch
from saetools.repro import read_json, write_json

__all__ = ["Damage", "DosePoint", "DoseResponse", "dose_response", "encoder_dose_response"]

FORMAT = "saetools-dose/1"

Intervention = Callable[[float], AbstractContextManager[Any]]
"""Opens the block of a strength."""

KL_LIMIT = 0.1
REPETITION_RISE = 0.1
COSINE_LIMIT = 0.05
_BATCH = 8


@dataclass(frozen=True)
class Damage:
    """One thing that a strength may break.

    Args:
        value: how much; lower is better.
        limit: what is still usable; None: reported only.
    """

    value: float
    limit: float | None = None

    @property
    def within(self) -> bool:
        """Whether it is usable."""
        return self.limit is None or self.value <= self.limit


@dataclass(frozen=True)
class DosePoint:
    """What one strength does.

    Args:
        strength: in the unit of the sweep.
        effect: what the caller counts; the larger, the more of the concept.
        damages: by name: "kl", "perplexity" and "repetition", or "cosine_loss".
        sample: a continuation, or "".
    """

    strength: float
    effect: float
    damages: Mapping[str, Damage]
    sample: str = ""

    @property
    def usable(self) -> bool:
        """Whether every damage is within its limit."""
        return all(damage.within for damage in self.damages.values())


@dataclass(frozen=True)
class DoseResponse:
    """The curve, and the strength that it speaks for.

    Args:
        points: one a strength, in order; 0 is among them.
        unit: what a strength of 1 is.
        effect_name: what the effect counts, in words.
    """

    points: tuple[DosePoint, ...]
    unit: str = "absolute"
    effect_name: str = "effect"

    @property
    def at_rest(self) -> DosePoint:
        """The model as it is."""
        return next(point for point in self.points if point.strength == 0)

    @property
    def usable(self) -> tuple[float, ...]:
        """Strengths within all limits, from 0 outwards without a gap."""
        found = [0.0]
        for side in (1, -1):
            for point in sorted(self.points, key=lambda p: abs(p.strength)):
                if point.strength * side > 0:
                    if not point.usable:
                        break
                    found.append(point.strength)
        return tuple(sorted(found))

    @property
    def chosen(self) -> float | None:
        """The usable strength with the largest effect in its direction; None if none has any."""
        best, gain = None, 0.0
        for point in sorted(self.points, key=lambda p: abs(p.strength)):
            gained = self.gain(point)
            if point.strength in self.usable and gained > gain + 1e-12:
                best, gain = point.strength, gained
        return best

    def gain(self, point: DosePoint) -> float:
        """Effect over that of the model as it is; of a negative strength, how much is lost."""
        change = point.effect - self.at_rest.effect
        return math.copysign(1.0, point.strength) * change if point.strength else 0.0

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        window = self.usable
        span = f"usable from {window[0]:g} to {window[-1]:g} ({self.unit})"
        if self.chosen is None:
            return f"{span}; no usable strength has an effect on {self.effect_name}"
        point = next(p for p in self.points if p.strength == self.chosen)
        costs = ", ".join(f"{name} {d.value:.3g}" for name, d in point.damages.items())
        return (
            f"{span}; strength {self.chosen:g}: {self.effect_name} {self.at_rest.effect:.3g} -> "
            f"{point.effect:.3g} at {costs}"
        )

    def svg(self) -> str:
        """The curve as a picture: effect above, damages below, the usable window shaded."""
        limits = {n: d.limit for n, d in self.points[0].damages.items()}
        rows = [
            (p.strength, p.effect, {n: d.value for n, d in p.damages.items()}) for p in self.points
        ]
        return dose_svg(
            rows,
            limits,
            window=(self.usable[0], self.usable[-1]),
            chosen=self.chosen,
            effect_name=self.effect_name,
            unit=self.unit,
        )

    def save(self, path: str | Path) -> Path:
        """Write the JSON file; what was chosen and why is in it, too."""
        result = {"usable": self.usable, "chosen": self.chosen, "verdict": self.verdict}
        return write_json(path, {"format": FORMAT, **asdict(self), **result})

    @classmethod
    def load(cls, path: str | Path) -> "DoseResponse":
        """Read what `save` wrote."""
        content = read_json(path, FORMAT)
        points = tuple(
            DosePoint(
                row["strength"],
                row["effect"],
                {
                    name: Damage(math.nan if d["value"] is None else d["value"], d["limit"])
                    for name, d in row["damages"].items()
                },
                row["sample"],
            )
            for row in content["points"]
        )
        return cls(points, content["unit"], content["effect_name"])

    def _repr_html_(self) -> str:
        return f"{self.svg()}<p>{self.verdict}</p>"


def dose_response(
    model: LanguageModel,
    intervention: Intervention,
    strengths: Sequence[float],
    *,
    prompts: Sequence[str],
    neutral: Sequence[str],
    effect: Callable[[Sequence[str]], float],
    effect_name: str = "effect",
    unit: str = "absolute",
    kl_limit: float = KL_LIMIT,
    n_tokens: int = 32,
    temperature: float = 1.0,
    ctx_len: int = 64,
    seed: int = 0,
) -> DoseResponse:
    """Measure a language model under an intervention at each strength.

    Args:
        intervention: opens the block of a strength, e.g. `lambda s: steer(model, sae, {7: s})`.
        strengths: in any order; 0 is added. At 0 no block is opened.
        prompts: texts to continue, each sampled once.
        neutral: texts without the concept, on which nothing should change.
        effect: counts the concept in texts; it is called outside of the block, so it sees what the
            model as it is makes of them. What it gets are prompts with their continuations.
        effect_name: what that is, in words.
        kl_limit: of the mean KL on neutral texts, in nats a token.
        n_tokens: length of the continuations.
        temperature: of sampling; 0 is greedy.
        ctx_len: neutral texts are cut to so many tokens.
        seed: of sampling; the same at each strength.
    """
    _check(strengths, prompts, neutral)
    batches = [
        model.tokenize(neutral[i : i + _BATCH], ctx_len=min(ctx_len, model.ctx_len))
        for i in range(0, len(neutral), _BATCH)
    ]
    plain = [_log_probabilities(model, tokens) for tokens in batches]
    rows = []
    with _each(strengths, intervention) as steps:
        for strength, block in steps:
            with block():
                kl = _mean_kl(model, batches, plain)
                texts = [
                    model.generate(prompt, n_tokens, temperature=temperature, seed=seed + i)
                    for i, prompt in enumerate(prompts)
                ]
            perplexity, repetition = _of_continuations(model, prompts, texts)
            rows.append((strength, effect(texts), kl, perplexity, repetition, texts[0]))
    most = next(row[4] for row in rows if row[0] == 0) + REPETITION_RISE
    points = tuple(
        DosePoint(
            strength,
            found,
            {
                "kl": Damage(kl, kl_limit),
                "repetition": Damage(repetition, most),
                "perplexity": Damage(perplexity),
            },
            sample,
        )
        for strength, found, kl, perplexity, repetition, sample in rows
    )
    return DoseResponse(points, unit, effect_name)


def encoder_dose_response(
    model: TextEncoder,
    intervention: Intervention,
    strengths: Sequence[float],
    *,
    neutral: Sequence[str],
    effect: Callable[[Tensor], float],
    effect_name: str = "effect",
    unit: str = "absolute",
    cosine_limit: float = COSINE_LIMIT,
) -> DoseResponse:
    """Measure a text encoder under an intervention at each strength.

    Args:
        intervention, strengths: see `dose_response`.
        neutral: texts without the concept.
        effect: counts the concept in the embeddings (n, d_model) of the neutral texts.
        cosine_limit: of the mean of 1 - cosine to the unchanged embedding.
    """
    _check(strengths, neutral, neutral)
    before = torch.nn.functional.normalize(model.embed(neutral), dim=-1)
    points = []
    with _each(strengths, intervention) as steps:
        for strength, block in steps:
            with block():
                after = model.embed(neutral)
            turned = 1 - (torch.nn.functional.normalize(after, dim=-1) * before).sum(-1)
            damage = Damage(float(turned.mean().clamp_min(0)), cosine_limit)
            points.append(DosePoint(strength, effect(after), {"cosine_loss": damage}))
    return DoseResponse(tuple(points), unit, effect_name)


def _check(strengths: Sequence[float], prompts: Sequence[str], neutral: Sequence[str]) -> None:
    wrong = [s for s in strengths if not math.isfinite(s)]
    if wrong or not any(strengths):
        raise ConfigError(
            f"a sweep takes finite strengths, at least one of them not 0; got {list(strengths)}"
        )
    if not prompts or not neutral:
        raise ConfigError(
            f"a sweep needs prompts to continue and neutral texts; got {len(prompts)} and "
            f"{len(neutral)}"
        )


@contextmanager
def _each(
    strengths: Sequence[float], intervention: Intervention
) -> Iterator[Iterator[tuple[float, Callable[[], AbstractContextManager[Any]]]]]:
    """Each strength in order, 0 among them, with what opens its block; shows the progress."""
    ordered = sorted({0.0, *map(float, strengths)})

    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    def steps() -> Iterator[tuple[float, Callable[[], AbstractContextManager[Any]]]]:
        for strength in ordered:
            yield strength, nothing if strength == 0 else _opened(intervention, strength)
            task.advance(1)

    with progress.task("sweep", total=len(ordered), unit="strengths") as task:
        yield steps()


def _opened(
    intervention: Intervention, strength: float
) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: intervention(strength)


def _log_probabilities(model: LanguageModel, tokens: TokenBatch) -> Tensor:
    return model.logits(tokens).float().log_softmax(-1)[tokens.content]  # (n, vocab)


def _mean_kl(model: LanguageModel, batches: Sequence[TokenBatch], plain: Sequence[Tensor]) -> float:
    """Mean over content tokens of KL(as it is, under the intervention), in nats."""
    total, n = 0.0, 0
    for tokens, log_p in zip(batches, plain, strict=True):
        log_q = _log_probabilities(model, tokens)
        total += float((log_p.exp() * (log_p - log_q)).sum(dtype=torch.float64))
        n += len(log_p)
    return max(total / max(n, 1), 0.0)


def _of_continuations(
    model: LanguageModel, prompts: Sequence[str], texts: Sequence[str]
) -> tuple[float, float]:
    """Perplexity of the continuations to the model as it is, and the share of repeated trigrams."""
    losses, repeated = [], []
    for prompt, text in zip(prompts, texts, strict=True):
        start = int(model.tokenize([prompt]).mask.sum())
        tokens = model.tokenize([text])
        found, real = model.token_losses(tokens)
        new = found[0, start - 1 :][real[0, start - 1 :]]
        if len(new):
            losses.append(new)
        repeated.append(_repetition(tokens.ids[0, start:].tolist()))
    mean = float(torch.cat(losses).double().mean()) if losses else math.nan
    return math.exp(min(mean, 700.0)), sum(repeated) / len(repeated)


def _repetition(ids: Sequence[int]) -> float:
    """Share of trigrams that have stood before, 0-1; 0 for fewer than three tokens."""
    trigrams = list(zip(ids, ids[1:], ids[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
