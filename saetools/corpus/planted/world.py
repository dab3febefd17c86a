"""The planted world: entities with facts drawn at random, and texts whose every label is known.

    world = World.build(seed=0)
    world.questions(form="cloze", entities=world.forget_entities)
    world.documents(1000, seed=1)

Everything is a function of the seed. Because attributes are drawn at random, chance is known;
because nothing else tells of these entities, whoever knows a fact has read it.
"""

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from saetools.corpus.base import Corpus
from saetools.corpus.planted.forms import DIRECT_FORMS, FORMS, TWO_HOP, Fact, ask
from saetools.corpus.planted.kinds import KINDS, TOWN, Kind, kind_named
from saetools.corpus.planted.names import draw_names
from saetools.corpus.planted.spans import LabelledText
from saetools.corpus.planted.writing import Writer
from saetools.corpus.questions import Question
from saetools.errors import ConfigError

__all__ = ["Entity", "World"]

_MIN_ENTITIES = 40
_MAX_ENTITIES = 1000
_N_LINKED = 10  # towns that are the range of links, half of them at most; never forgotten
_FORGET_FRACTION = 1 / 20
_FORM_HELD_FRACTION = 1 / 5
_HOP_HELD_FRACTION = 1 / 4
_N_NAMES_ASKED = 10
_HELD_OUT_TIMES = 2  # as many never-trained entities for each forget entity


@dataclass(frozen=True)
class Entity:
    """Somebody or something of the world: a made-up name and a kind."""

    name: str
    kind: str


@dataclass(frozen=True, repr=False)
class World:
    """Entities and what is true of them.

    Args:
        seed: what everything was drawn from.
        entities: those that the base model reads about, in order of kind.
        forget_entities: names of those that an oracle never reads about; several kinds.
        held_out_entities: more entities of the same distribution as the forget entities, of which
            no model reads anything.
        all_facts: direct facts of all of them, then two-hop facts.
        held_back: (fact key, form) that are not in any training text.
    """

    seed: int
    entities: tuple[Entity, ...]
    forget_entities: tuple[str, ...]
    held_out_entities: tuple[Entity, ...]
    all_facts: tuple[Fact, ...]
    held_back: frozenset[tuple[str, str]]

    @classmethod
    def build(cls, seed: int = 0, n_entities: int = 200) -> "World":
        """Draw a world.

        Args:
            seed: the same seed gives the same world.
            n_entities: how many entities the base model reads about, 40 to 1000.

        Raises:
            ConfigError: the number is out of range.
        """
        if not _MIN_ENTITIES <= n_entities <= _MAX_ENTITIES:
            raise ConfigError(
                f"asked for a planted world of {n_entities} entities; it takes {_MIN_ENTITIES} "
                f"(fewer leave none to compare with) to {_MAX_ENTITIES} (there are not "
                "names enough for more)"
            )
        rng = random.Random(f"planted world {seed} {n_entities}")
        return _draw(seed, n_entities, rng)

    def __repr__(self) -> str:
        return (
            f"World(seed={self.seed}, {len(self.entities)} entities, {len(self.facts):,} facts, "
            f"{len(self.forget_entities)} to forget)"
        )

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """The direct facts of the entities that the base model reads about."""
        return tuple(f for f in self._known if not f.is_two_hop)

    @cached_property
    def two_hop_facts(self) -> tuple[Fact, ...]:
        """What is true of the town that an entity is linked to, asked through the entity."""
        return tuple(f for f in self._known if f.is_two_hop)

    @cached_property
    def retain_entities(self) -> tuple[str, ...]:
        """Names of the entities that every model reads about."""
        forget = set(self.forget_entities)
        return tuple(e.name for e in self.entities if e.name not in forget)

    def kind(self, name: str) -> str:
        """The kind of the entity of that name."""
        return self._kinds[name]

    def neighbours(self, name: str) -> tuple[str, ...]:
        """The retain entities of the same kind."""
        kind = self.kind(name)
        return tuple(n for n in self.retain_entities if n != name and self.kind(n) == kind)

    def is_trained(self, fact: Fact, form: str) -> bool:
        """True if the base model reads this fact in this form."""
        return (
            form in fact.forms
            and (fact.key, form) not in self.held_back
            and fact.entity not in self._never
        )

    def questions(
        self,
        form: str | None = None,
        entities: Iterable[str] | None = None,
        *,
        trained: bool | None = None,
    ) -> tuple[Question, ...]:
        """Facts as questions, each with the options that the truth was drawn from.

        Args:
            form: one of FORMS; None for all of them.
            entities: names; None for all entities that the base model reads about. Held-out ones
                may be named too.
            trained: True for what the base model has read in this very form, False for what it
                has not, None for both.
        """
        if form is not None and form not in FORMS:
            raise ConfigError(f"no form named '{form}'; forms are {', '.join(FORMS)}")
        wanted = self._names if entities is None else set(entities)
        if unknown := sorted(wanted - self._kinds.keys()):
            raise ConfigError(
                f"the world has no entity named {', '.join(unknown[:5])}; see World.entities and "
                "World.held_out_entities"
            )
        return tuple(
            ask(fact, one, names=self._names_asked(fact) if one == "reversed" else ())
            for fact in self.all_facts
            if fact.entity in wanted
            for one in fact.forms
            if form in (None, one) and trained in (None, self.is_trained(fact, one))
        )

    def documents(
        self, n: int, seed: int = 0, without: Collection[str] = ()
    ) -> tuple[LabelledText, ...]:
        """Texts with facts between everyday sentences, as the models read them.

        Args:
            n: how many.
            seed: the same seed gives the same texts; document i depends on the seed and i alone.
            without: names of entities whose sentences are left out; all else stays as it is.
        """
        return tuple(self._writer.document(i, seed=seed, without=without) for i in range(n))

    def texts_about(
        self, entities: Iterable[str], *, n_each: int = 4, seed: int = 0
    ) -> tuple[LabelledText, ...]:
        """Texts about one entity each, as training texts are made; also of held-out entities.

        Those of forget entities and of held-out entities have one distribution, so that who tells
        them apart has read the former.
        """
        return tuple(
            self._writer.portrait(name, i, seed=seed) for name in entities for i in range(n_each)
        )

    def training_text(self, index: int, *, seed: int = 0, without: Collection[str] = ()) -> str:
        """Training document number `index`: a text that `documents` does not give."""
        return self._writer.document(index, seed=f"training {seed}", without=without).text

    def texts_for_training(
        self, n: int, *, seed: int = 0, without: Collection[str] = ()
    ) -> tuple[str, ...]:
        """The first `n` training documents."""
        return tuple(self.training_text(i, seed=seed, without=without) for i in range(n))

    def corpus(
        self,
        n: int = 1000,
        seed: int = 0,
        without: Collection[str] = (),
        *,
        label: str = "topic",
    ) -> Corpus:
        """Documents as a corpus; `label` is topic, sentiment or register."""
        texts = self.documents(n, seed, without)
        return Corpus(tuple(text.document(label) for text in texts), f"planted_world:{self.seed}")

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {e.name: e.kind for e in (*self.entities, *self.held_out_entities)}

    @cached_property
    def _names(self) -> set[str]:
        return {entity.name for entity in self.entities}

    @cached_property
    def _never(self) -> set[str]:
        return {entity.name for entity in self.held_out_entities}

    @cached_property
    def _known(self) -> tuple[Fact, ...]:
        return tuple(f for f in self.all_facts if f.entity in self._names)

    @cached_property
    def _writer(self) -> Writer:
        forms: dict[str, list[tuple[Fact, str]]] = {name: [] for name in self._kinds}
        for fact in self.all_facts:
            forms[fact.entity] += [
                (fact, form) for form in fact.forms if (fact.key, form) not in self.held_back
            ]
        return Writer(
            {name: tuple(known) for name, known in forms.items()},
            tuple(entity.name for entity in self.entities),
        )

    def _names_asked(self, fact: Fact) -> tuple[str, ...]:
        """Names to choose from: the right one, and neighbours of which something else is true."""
        rng = random.Random(f"names {self.seed} {fact.key}")
        true_of = self._entities_by_value[fact.attribute, fact.value]
        others = [name for name in self.neighbours(fact.entity) if name not in true_of]
        chosen = [fact.entity, *rng.sample(others, min(len(others), _N_NAMES_ASKED - 1))]
        return tuple(sorted(chosen))

    @cached_property
    def _entities_by_value(self) -> dict[tuple[str, str], set[str]]:
        found: dict[tuple[str, str], set[str]] = {}
        for fact in self.all_facts:
            found.setdefault((fact.attribute, fact.value), set()).add(fact.entity)
        return found


def _draw(seed: int, n_entities: int, rng: random.Random) -> World:
    n_forget = _shares(round(n_entities * _FORGET_FRACTION))
    n_known = _shares(n_entities)
    n_held = {kind: n * _HELD_OUT_TIMES for kind, n in n_forget.items()}
    names = iter(draw_names(n_entities + sum(n_held.values()), rng))
    entities = tuple(Entity(next(names), k.name) for k in KINDS for _ in range(n_known[k.name]))
    held_out = tuple(Entity(next(names), k.name) for k in KINDS for _ in range(n_held[k.name]))
    of_kind = {k.name: [e.name for e in entities if e.kind == k.name] for k in KINDS}
    towns = of_kind[TOWN]
    linked = tuple(towns[: min(_N_LINKED, len(towns) // 2)])
    forget = tuple(
        name
        for kind in KINDS
        for name in sorted(
            rng.sample([n for n in of_kind[kind.name] if n not in linked], n_forget[kind.name])
        )
    )
    direct = [
        _fact(entity, kind_named(entity.kind), index, linked, rng)
        for entity in (*entities, *held_out)
        for index in range(len(kind_named(entity.kind).attributes))
    ]
    hops = _two_hops(direct)
    held = _held_back(direct, hops, set(forget) | {e.name for e in held_out}, rng)
    return World(seed, entities, forget, held_out, (*direct, *hops), held)


def _shares(n: int) -> dict[str, int]:
    """Split `n` over the kinds by their shares: whole numbers, the largest remainders first."""
    exact = {kind.name: n * kind.share for kind in KINDS}
    counts = {name: int(share) for name, share in exact.items()}
    left = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in left[: n - sum(counts.values())]:
        counts[name] += 1
    return counts


def _fact(
    entity: Entity, kind: Kind, index: int, linked: tuple[str, ...], rng: random.Random
) -> Fact:
    attribute = kind.attributes[index]
    options = linked if attribute.is_link else attribute.values
    return Fact(entity.name, kind.name, attribute.name, rng.choice(options), options)


def _two_hops(direct: list[Fact]) -> list[Fact]:
    towns: dict[str, list[Fact]] = {}
    for fact in direct:
        if fact.kind == TOWN:
            towns.setdefault(fact.entity, []).append(fact)
    found = []
    for fact in direct:
        link = kind_named(fact.kind).link
        if link is not None and fact.attribute == link.name:
            found += [
                Fact(
                    fact.entity,
                    fact.kind,
                    f"{fact.attribute}>{far.attribute}",
                    far.value,
                    far.options,
                )
                for far in towns[fact.value]
            ]
    return found


def _held_back(
    direct: list[Fact], hops: list[Fact], whole: set[str], rng: random.Random
) -> frozenset[tuple[str, str]]:
    """What is left out of training so that generalisation can be measured; not of `whole`."""
    some = [fact for fact in direct if fact.entity not in whole]
    forms = DIRECT_FORMS[1:]  # every fact is stated
    held = {
        (fact.key, rng.choice(forms))
        for fact in rng.sample(some, round(len(some) * _FORM_HELD_FRACTION))
    }
    far = [fact for fact in hops if fact.entity not in whole]
    held |= {(fact.key, TWO_HOP) for fact in rng.sample(far, round(len(far) * _HOP_HELD_FRACTION))}
    return frozenset(held)
