"""When an intervention fires: where a trigger's score, or a text's statistic of it, is high enough.

Everything else passes untouched, to the last bit.

Of a text, the prompt is judged as a whole: all of it is edited, or none. A generated token is
judged by the statistic up to and including itself, so the running statistic of "Dynamic SAE
Guardrails" (Muhamed et al. 2025, arXiv:2504.08192) can begin to fire in the middle of an answer;
what was read before stays as it was. So generation with a cache, without one, and in beams decides
alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.triggers import Trigger
from saetools.models.forward_pass import ForwardPass

__all__ = ["Condition", "Judge", "Scope", "Statistic", "statistic_of"]

Scope = Literal["token", "text", "token_in_text"]
Statistic = Literal["max", "mean", "fraction"]


@dataclass(frozen=True)
class Condition:
    """Fire where a trigger's score is above a threshold.

    Args:
        trigger: gives each token a score.
        threshold: what the score, or the statistic, must exceed.
        scope: "token": each token by its own score; "text": all tokens of a text whose statistic
            is above the threshold; "token_in_text": of such a text those tokens whose own score is
            above `level`.
        statistic: of a text's tokens: "max", "mean", or "fraction" of tokens with a score above
            `level`.
        level: see there.
        release: hysteresis: once it fires, it goes on until the score (or the statistic) falls
            below this, which is at most the threshold. None: no hysteresis.
    """

    trigger: Trigger
    threshold: float
    scope: Scope = "token"
    statistic: Statistic = "max"
    level: float = 0.0
    release: float | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("scope", Scope), ("statistic", Statistic)):
            if getattr(self, name) not in get_args(kinds):
                raise ConfigError(
                    f"condition: unknown {name} {getattr(self, name)!r}; choose one of "
                    f"{', '.join(get_args(kinds))}"
                )
        if self.release is not None and self.release > self.threshold:
            raise ConfigError(
                f"condition: it would be released at {self.release}, above the threshold "
                f"{self.threshold} at which it fires; give a release of at most the threshold"
            )

    @property
    def remembers(self) -> bool:
        """Whether a token's decision depends on tokens before it."""
        return self.scope != "token" or self.release is not None


class _State(NamedTuple):
    """What is known of each text up to a token: (batch,) float64 each, `on` as 0 and 1."""

    total: Tensor
    n_counted: Tensor
    over: Tensor
    best: Tensor
    on: Tensor

    @classmethod
    def new(cls, batch: int, device: torch.device) -> "_State":
        zero = torch.zeros(batch, dtype=torch.float64, device=device)
        return cls(zero, zero, zero, torch.full_like(zero, -torch.inf), zero)


class Judge:
    """Decides a condition pass by pass, and remembers what the cached tokens said.

    A state is kept for each row of the last pass, under the tokens that the row holds: beam search
    may permute, drop and copy rows between two steps, and each still finds its own past.
    """

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._named: dict[bytes, Sequence[Tensor]] = {}
        self._last: _State | None = None

    def __call__(
        self,
        scores: Float[Tensor, "batch pos"],
        counts: Bool[Tensor, "batch pos"],
        running: ForwardPass,
    ) -> Bool[Tensor, "batch pos"]:
        """Where it fires.

        Args:
            scores: of each token; only those that count are looked at.
            counts: tokens that belong to the text.
            running: the pass.
        """
        condition = self._condition
        scores = scores.double()
        if not condition.remembers:
            return counts & (scores > condition.threshold)
        before = self._before(running, scores)
        after, statistic = _running(scores, counts, before, condition)
        if condition.scope != "token":
            statistic = _prompt_as_a_whole(statistic, running)
        on = self._switched(statistic, counts, before.on.bool())
        self._remember(running, _State(*after, on[:, -1].double()))
        if condition.scope == "token_in_text":
            return counts & on & (scores > condition.level)
        return counts & on

    def _switched(
        self, statistic: Tensor, counts: Tensor, on: Bool[Tensor, " batch"]
    ) -> Bool[Tensor, "batch pos"]:
        high = statistic > self._condition.threshold
        if self._condition.release is None:
            return high
        low = statistic < self._condition.release
        states = []
        for pos in range(statistic.shape[1]):
            turned = high[:, pos] | (on & ~low[:, pos])
            on = torch.where(counts[:, pos], turned, on)
            states.append(on)
        return torch.stack(states, dim=1)

    def _before(self, running: ForwardPass, scores: Tensor) -> _State:
        batch, device = scores.shape[0], scores.device
        if running.n_past == 0:
            return _State.new(batch, device)
        names = running.row_names()
        if names is not None:
            found = [self._named.get(name) for name in names[0]]
            rows = [row for row in found if row is not None]
            if len(rows) == len(found):
                return _State(*(torch.stack(part) for part in zip(*rows, strict=True)))
        elif self._last is not None and len(self._last.on) == batch:
            return self._last  # somebody's own loop over a cache: rows stay in their order
        raise ConfigError(
            f"the model goes on from a cache of {running.n_past} tokens that this conditional "
            "intervention has not seen; open the block before the prompt is read"
        )

    def _remember(self, running: ForwardPass, state: _State) -> None:
        self._last, self._named = state, {}
        names = running.row_names()
        if names is not None:
            for i, name in enumerate(names[1]):
                self._named[name] = [part[i] for part in state]


def statistic_of(
    condition: Condition, scores: Float[Tensor, "batch pos"], counts: Bool[Tensor, "batch pos"]
) -> Float[Tensor, " batch"]:
    """The condition's statistic of each whole text, from the scores of the tokens that count."""
    fresh = _State.new(len(scores), scores.device)
    return _running(scores, counts, fresh, condition)[1][:, -1]


def _running(
    scores: Tensor, counts: Tensor, before: _State, condition: Condition
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Float[Tensor, "batch pos"]]:
    """Sums after the pass (batch,) each, and the statistic up to each token."""
    kept = scores.masked_fill(~counts, 0.0)
    above = counts & (scores > condition.level)
    total = before.total.unsqueeze(1) + kept.cumsum(1)
    count = before.n_counted.unsqueeze(1) + counts.double().cumsum(1)
    over = before.over.unsqueeze(1) + above.double().cumsum(1)
    highest = scores.masked_fill(~counts, -torch.inf).cummax(1).values
    best = torch.maximum(before.best.unsqueeze(1), highest)
    after = (total[:, -1], count[:, -1], over[:, -1], best[:, -1])
    if condition.scope == "token":
        return after, scores
    of: dict[str, Callable[[], Tensor]] = {
        "max": lambda: best,
        "mean": lambda: total / count.clamp_min(1),
        "fraction": lambda: over / count.clamp_min(1),
    }
    return after, of[condition.statistic]()


def _prompt_as_a_whole(
    statistic: Float[Tensor, "batch pos"], running: ForwardPass
) -> Float[Tensor, "batch pos"]:
    """Every prompt token gets the statistic of the whole prompt."""
    in_prompt = ~running.generated
    n_prompt = int(in_prompt[0].sum()) if len(in_prompt) else 0  # the same columns in every row
    if n_prompt == 0:
        return statistic
    return torch.where(in_prompt, statistic[:, n_prompt - 1 : n_prompt], statistic)
