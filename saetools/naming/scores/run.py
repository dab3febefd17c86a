"""Score names with any scorers, each beside a random name and a swapped one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from saetools import progress
from saetools.analysis import LatentIndex
from saetools.analysis.postings import CodedLists
from saetools.config import validate
from saetools.errors import ConfigError, UnknownNameError
from saetools.models import SubjectModel
from saetools.naming.base import Name
from saetools.naming.chat import Chat
from saetools.naming.scores.base import SCORERS
from saetools.naming.scores.context import ScoringContext
from saetools.naming.scores.controls import trials_of
from saetools.naming.scores.evidence import EvidenceConfig
from saetools.naming.scores.held_out import Indexed
from saetools.naming.scores.table import ScoreTable
from saetools.sae import SAE

__all__ = ["score_names"]

_MAX_ENTRIES = 100_000_000  # 6 bytes each


def score_names(
    index: Indexed,
    names: Iterable[Name],
    *,
    scorers: Sequence[str] = ("predicate", "observational"),
    latents: Iterable[int] | None = None,
    chat: Chat | None = None,
    model: SubjectModel | None = None,
    sae: SAE | None = None,
    evidence: EvidenceConfig | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> ScoreTable:
    """Score names on held-out documents, which no namer has seen.

        scores = score_names(index, names, scorers=("predicate", "detection"), chat=judge)

    Names of confidence 0 say that they are none, and are left out. So is what no scorer can tell:
    its row says why.

    Args:
        index: what the latents fire on.
        names: the names; also those whose latents are not scored, for the random and swapped ones.
        scorers: which scorers.
        latents: which latents; by default all that have a name.
        chat: a judge, for "detection", "fuzzing" and "simulation": messages in, text out.
        model, sae: what the index was made from, for "intervention".
        evidence: how contexts are drawn.
        settings: settings of scorers by name, e.g. {"intervention": {"n_texts": 16}}.
        seed: of every draw.

    Raises:
        UnknownNameError: no such scorer, or a latent has no name.
        ConfigError: a setting is unknown or out of range, or a scorer needs a part that is missing.
    """
    pool = [name for name in names if name.confidence > 0]
    context = ScoringContext(
        _in_memory(index), evidence=evidence, chat=chat, model=model, sae=sae, seed=seed
    )
    given = dict(settings or {})
    plug_ins = {name: SCORERS.get(name) for name in scorers}
    unused = sorted(set(given) - set(plug_ins))
    if unused:
        raise ConfigError(
            f"score_names: settings for {', '.join(unused)}, which is not among the scorers asked "
            f"for ({', '.join(plug_ins)}); add it to scorers= or leave its settings out"
        )
    configs = {
        name: validate(plug_in.Config, dict(given.get(name, {})), what=f"scorer '{name}'")
        for name, plug_in in plug_ins.items()
    }
    for name, plug_in in plug_ins.items():
        for part in plug_in.needs:
            context.need(part, name)
    trials = trials_of(_chosen(pool, latents, index), pool, seed=seed)
    found = []
    with progress.task("score", total=len(plug_ins), unit="scorers") as task:
        for name, plug_in in plug_ins.items():
            found += plug_in.score(trials, context, configs[name])
            task.advance()
    return ScoreTable(found)


def _in_memory(index: Indexed) -> Indexed:
    """The same index with its lists read at once: one by one, most of the time would go there."""
    if not isinstance(index, LatentIndex) or int(index.lists.bounds[-1]) > _MAX_ENTRIES:
        return index
    bounds = index.lists.bounds
    return replace(index, lists=CodedLists(bounds, *index.lists.read(0, int(bounds[-1]))))


def _chosen(pool: Sequence[Name], latents: Iterable[int] | None, index: Indexed) -> list[Name]:
    by_latent = {name.latent: name for name in pool}
    if latents is None:
        return [by_latent[latent] for latent in sorted(by_latent)]
    asked = sorted({int(latent) for latent in latents})
    outside = [latent for latent in asked if not 0 <= latent < index.n_latents]
    if outside:
        raise UnknownNameError(
            f"score_names: there is no latent {outside[0]}; the index has the latents 0 to "
            f"{index.n_latents - 1}"
        )
    return [by_latent[latent] for latent in asked if latent in by_latent]
