"""What is true of a run whose texts come from the planted world."""

from typing import TYPE_CHECKING, Any

from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.corpus import Question
    from saetools.corpus.planted import World
    from saetools.store import ActivationStore
    from saetools.testbed.truth import WorldTruth

__all__ = ["is_planted", "known_facts", "truth_of", "world_of"]

_SOURCE = "planted_world"
_ASKED = "person"  # the kind whose facts are asked: one is enough


def is_planted(run: RunFolder) -> bool:
    """Whether the run was harvested from texts of the planted world."""
    return run.config.data.type == _SOURCE


def world_of(run: RunFolder) -> "World":
    """The world that a run reads about.

    Raises:
        ConfigError: it reads other texts.
    """
    from saetools.corpus.planted import World  # heavy: numpy

    config = _settings(run)
    return World.build(config.world_seed, config.n_entities)


def known_facts(run: RunFolder) -> "tuple[Question, ...]":
    """Facts about the people of a run's world, as statements: what an evaluation asks."""
    world = world_of(run)
    names = [entity.name for entity in world.entities if entity.kind == _ASKED]
    return world.questions("statement", names, trained=True)


def truth_of(run: RunFolder, store: "ActivationStore") -> "WorldTruth":
    """What holds at each row of a run's store.

    Raises:
        ConfigError: the run was not harvested from texts of the planted world.
    """
    from saetools.testbed.truth import world_truth  # heavy: torch

    world, config = world_of(run), _settings(run)
    without = world.forget_entities if config.without_forget else ()
    texts = world.documents(config.n_docs, config.seed, without)
    return world_truth(store, texts, run.model.tokenizer)


def _settings(run: RunFolder) -> Any:
    # heavy: torch
    from saetools.config import validate
    from saetools.corpus import CORPORA

    data = run.config.data
    if not is_planted(run):
        raise ConfigError(
            f"{run.path} was harvested from '{data.type}', whose truth is not known; set "
            f"data.type={_SOURCE}"
        )
    return validate(CORPORA.get(data.type).Config, data.fields, what="data")
