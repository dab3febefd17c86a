"""The whole measurement: facts, pairs, masks, and what each way of exchanging achieves."""

from dataclasses import dataclass

import numpy as np
import torch

from saetools import progress
from saetools.corpus import Question
from saetools.errors import ConfigError
from saetools.evaluate.bootstrap import Floats, stderr
from saetools.evaluate.ravel.config import RavelConfig
from saetools.evaluate.ravel.exchange import Exchanger, Rule
from saetools.evaluate.ravel.facts import KnownFacts, known_facts
from saetools.evaluate.ravel.masks import learned_mask, selected_mask
from saetools.evaluate.ravel.pairs import Pair, attribute_pairs, split_entities
from saetools.intervene.base import find_site
from saetools.models.base import LanguageModel
from saetools.sae import SAE

__all__ = ["RavelArm", "RavelResult", "ravel"]

ARMS = ("learned", "selected", "reconstructed", "full", "none")
_MIN_PAIRS = 20
_MIN_ENTITIES = 10


@dataclass(frozen=True)
class RavelArm:
    """What one way of exchanging achieves: means over attributes and standard errors, 0 to 1.

    Args:
        cause: share of cause pairs that answer as the source.
        isolation: share of isolation pairs that answer as before.
        score: mean of both.
    """

    cause: float
    isolation: float
    score: float
    cause_stderr: float
    isolation_stderr: float
    score_stderr: float


@dataclass(frozen=True)
class RavelResult:
    """What was found, by arm.

    Args:
        arms: "learned" and "selected" masks of latents; "reconstructed": the base's own latents;
            "full": the source's whole activation; "none": nothing exchanged.
        attributes: those that could be measured.
        n_latents: latents in the mask, by arm and attribute.
        n_known: questions that the model answers rightly.
        n_asked: questions that it was asked.
        skipped: why there are no arms, None where there are.
    """

    arms: dict[str, RavelArm]
    attributes: tuple[str, ...]
    n_latents: dict[str, dict[str, int]]
    n_known: int
    n_asked: int
    skipped: str | None = None


def ravel(
    model: LanguageModel,
    sae: SAE,
    questions: tuple[Question, ...],
    *,
    hook_name: str | None = None,
    config: RavelConfig | None = None,
    seed: int = 0,
) -> RavelResult:
    """Exchange attributes of entities through the SAE's latents, and see what the model answers.

    Args:
        model: language model that knows the facts.
        sae: SAE of one of its plain hooks.
        questions: facts with their entity, which the prompt must name, and attribute.
        hook_name: where; by default the hook that the SAE was trained at.
        config: settings; the defaults where None.
        seed: of every draw.

    Raises:
        ConfigError: no question names its entity and attribute.
    """
    config = config or RavelConfig()
    if not any(question.entity and question.attribute for question in questions):
        raise ConfigError(
            f"ravel: none of {len(questions)} questions has an entity and an attribute; name both"
        )
    site = find_site(model, sae, hook_name=hook_name)
    known = known_facts(model, site.hook_name, questions, limit=config.max_questions, seed=seed)
    train, test = split_entities(known.facts, train_fraction=config.train_fraction, seed=seed)
    pairs = _all_pairs(known, train, test, config, seed)
    if not pairs:
        return RavelResult({}, (), {}, len(known.facts), known.n_asked, _why_not(known))
    tables = {arm: _Table(known, sorted(test), len(pairs)) for arm in ARMS}
    sizes: dict[str, dict[str, int]] = {"learned": {}, "selected": {}}
    most = {attribute: _most_runs(*both, config) for attribute, both in pairs.items()}
    with progress.task("ravel", total=sum(most.values()), unit="pairs") as task:
        exchanger = Exchanger(
            model, sae, site.hook_name, known, keep_error=config.keep_error, task=task
        )
        for column, (attribute, (to_fit, to_test)) in enumerate(pairs.items()):
            task.note(attribute=attribute)
            before = exchanger.n_answered
            masks = {
                "learned": learned_mask(exchanger, to_fit, config, seed=seed),
                "selected": selected_mask(exchanger, to_fit, known.facts, attribute, train, config),
            }
            for arm, rule in _rules(exchanger, masks).items():
                tables[arm].add(column, to_test, exchanger.right(to_test, rule))
            for arm, mask in masks.items():
                sizes[arm][attribute] = int(mask.sum())
            task.advance(most[attribute] - (exchanger.n_answered - before))
    arms = {arm: table.arm(seed=seed) for arm, table in tables.items()}
    return RavelResult(arms, tuple(pairs), sizes, len(known.facts), known.n_asked)


def _rules(exchanger: Exchanger, masks: dict[str, torch.Tensor]) -> dict[str, Rule]:
    return {
        **{arm: exchanger.masked(mask.float()) for arm, mask in masks.items()},
        "reconstructed": exchanger.masked(torch.zeros_like(masks["learned"], dtype=torch.float32)),
        "full": lambda _base, source: exchanger.activations(source),
        "none": lambda base, _source: exchanger.activations(base),
    }


def _most_runs(fit: list[Pair], measured: list[Pair], config: RavelConfig) -> int:
    """Pairs that an attribute takes: to learn a mask, to select one, and in every arm."""
    n_sizes = config.max_selected.bit_length()  # 1, 2, 4, ... where so many latents are any good
    return (config.epochs + n_sizes) * len(fit) + len(ARMS) * len(measured)


def _all_pairs(
    known: KnownFacts, train: set[str], test: set[str], config: RavelConfig, seed: int
) -> dict[str, tuple[list[Pair], list[Pair]]]:
    """Training and test pairs of every attribute that has enough of both kinds."""
    n_train = round(config.train_fraction * config.pairs_per_attribute)
    sizes = ((train, n_train), (test, config.pairs_per_attribute - n_train))
    found = {}
    for attribute in sorted({fact.question.attribute for fact in known.facts}):
        fit, measured = (
            attribute_pairs(known.facts, attribute, entities, n=n, seed=seed)
            for entities, n in sizes
        )
        if all(_enough(pairs) for pairs in (fit, measured)):
            found[attribute] = (fit, measured)
    return found


def _enough(pairs: list[Pair]) -> bool:
    n_cause = sum(pair.kind == "cause" for pair in pairs)
    return min(n_cause, len(pairs) - n_cause) >= _MIN_PAIRS


def _why_not(known: KnownFacts) -> str:
    n_entities = len({fact.question.entity for fact in known.facts})
    return (
        f"the model answers {len(known.facts)} of {known.n_asked} questions rightly, about "
        f"{n_entities} entities ({known.n_untold} could not be put to it); no attribute has "
        f"{_MIN_PAIRS} pairs of each kind on both sides of the split: ask about facts that it knows"
    )


class _Table:
    """Right answers and pairs by base entity and attribute, of both kinds."""

    def __init__(self, known: KnownFacts, entities: list[str], n_attributes: int) -> None:
        self._facts = known.facts
        self._place = {name: number for number, name in enumerate(entities)}
        shape = (len(entities), n_attributes)
        self._sums = {kind: (np.zeros(shape), np.zeros(shape)) for kind in ("cause", "isolation")}

    def add(self, column: int, pairs: list[Pair], right: np.typing.NDArray[np.bool_]) -> None:
        for pair, is_right in zip(pairs, right, strict=True):
            row = self._place[self._facts[pair.base].question.entity]
            good, total = self._sums[pair.kind]
            good[row, column] += is_right
            total[row, column] += 1

    def arm(self, *, seed: int) -> RavelArm:
        n = len(self._place)
        whole = np.ones((1, n))
        parts = {kind: self._rate(kind, whole)[0] for kind in self._sums}
        errors = {
            kind: stderr(lambda w, kind=kind: self._rate(kind, w), n, seed=seed)  # type: ignore[misc]
            for kind in self._sums
        }
        both = stderr(
            lambda w: (self._rate("cause", w) + self._rate("isolation", w)) / 2, n, seed=seed
        )
        cause, isolation = float(parts["cause"]), float(parts["isolation"])
        return RavelArm(
            cause,
            isolation,
            (cause + isolation) / 2,
            errors["cause"],
            errors["isolation"],
            both,
        )

    def _rate(self, kind: str, weight: Floats) -> Floats:
        good, total = self._sums[kind]
        ratios = (weight @ good) / (weight @ total)  # (n_draws, attributes)
        mean: Floats = np.nanmean(ratios, axis=1)
        return mean
