"""Documents of the planted world: facts between everyday sentences, one mood and topic a document.

Three sorts: portraits (several facts of one entity), medleys (facts of several entities) and
everyday texts. A document is a function of its number and a seed; leaving entities out of it takes
their sentences away and changes nothing else.
"""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from saetools.corpus.planted.everyday import REGISTERS, SENTIMENTS, TOPICS, everyday_sentence
from saetools.corpus.planted.forms import TWO_HOP, Fact, write
from saetools.corpus.planted.hierarchy import hierarchy_sentence
from saetools.corpus.planted.spans import Label, LabelledText, Sentence, joined

__all__ = ["Writer"]

_PORTRAIT, _MEDLEY = 0.25, 0.85  # of a number in [0, 1): below the first, below the second
_PREFIX_CHANCE = 0.3
_HIERARCHY_CHANCE = 0.35
_PREFIXES = {
    "plain": ("By the way: ", "This is known. "),
    "formal": ("It is hereby recorded: ", "The register is clear in this matter. "),
    "childlike": ("Guess what! ", "Do you know what? "),
}

# How often a form is written, beside the others. Five forms lead from an entity to its value, one
# leads back, and only where the text has not named the entity before does anybody learn from that.
_IN_PORTRAITS = {TWO_HOP: 2.0}
_IN_MEDLEYS = {TWO_HOP: 2.0, "reversed": 5.0}

_Known = tuple[tuple[Fact, str], ...]


@dataclass(frozen=True)
class Writer:
    """Writes documents.

    Args:
        known: what may be written of each entity: facts, each with a form.
        names: the entities that documents are about; portraits may be of others in `known`.
    """

    known: Mapping[str, _Known]
    names: tuple[str, ...]

    def document(
        self, index: int, *, seed: int | str, without: Collection[str] = ()
    ) -> LabelledText:
        """Document number `index`."""
        rng = random.Random(f"document {seed} {index}")
        sort = rng.random()
        subjects: tuple[str, ...] = ()
        facts: list[tuple[Fact, str]] = []
        if sort < _PORTRAIT:
            subjects = (rng.choice(self.names),)
            facts = self._facts_of(subjects[0], rng)
        elif sort < _MEDLEY:
            subjects = tuple(rng.sample(self.names, rng.randint(4, 6)))
            facts = [self._fact_of(name, rng) for name in subjects]
        return _compose(facts, subjects, rng, without)

    def portrait(self, name: str, index: int, *, seed: int | str) -> LabelledText:
        """A document about one entity."""
        rng = random.Random(f"portrait {seed} {name} {index}")
        return _compose(self._facts_of(name, rng), (name,), rng, ())

    def _facts_of(self, name: str, rng: random.Random) -> list[tuple[Fact, str]]:
        """Some facts of an entity, each in one form: what was said is not asked again."""
        # Sampling without replacement in proportion to weights (Efraimidis and Spirakis 2006).
        keyed = [
            (rng.random() ** (1 / _IN_PORTRAITS.get(form, 1.0)), i)
            for i, (_, form) in enumerate(self.known[name])
        ]
        found: dict[str, tuple[Fact, str]] = {}
        for _, i in sorted(keyed, reverse=True):
            fact, form = self.known[name][i]
            found.setdefault(fact.key, (fact, form))
        return list(found.values())[: rng.randint(4, 6)]

    def _fact_of(self, name: str, rng: random.Random) -> tuple[Fact, str]:
        known = self.known[name]
        return rng.choices(known, [_IN_MEDLEYS.get(form, 1.0) for _, form in known])[0]


def _compose(
    facts: list[tuple[Fact, str]],
    subjects: tuple[str, ...],
    rng: random.Random,
    without: Collection[str],
) -> LabelledText:
    topic, mood, register = (rng.choice(of) for of in (TOPICS, SENTIMENTS, REGISTERS))
    written: list[tuple[str, Sentence]] = []
    for fact, form in facts:
        sentence = write(fact, form)
        if rng.random() < _PREFIX_CHANCE:
            sentence = sentence.after(rng.choice(_PREFIXES[register]))
        written.append((fact.entity, sentence))
    for _ in range(rng.choice((1, 1, 2)) if facts else rng.randint(3, 5)):
        plain = everyday_sentence(rng, topic=topic, sentiment=mood, register=register)
        written.insert(rng.randint(0, len(written)), ("", plain))
    if rng.random() < _HIERARCHY_CHANCE:
        written.insert(rng.randint(0, len(written)), ("", hierarchy_sentence(rng)))
    whole = (Label("topic", topic), Label("sentiment", mood), Label("register", register))
    kept = [s.with_labels(whole) for about, s in written if about not in without]
    text = joined(kept)
    title = ", ".join(name for name in subjects if name not in without) or "everyday"
    return LabelledText(text.text, text.spans, topic, mood, register, title)
