"""The forms a fact is written in, and the question that each form is.

In every form the answer is the last word but for the full stop, so the words before it are a
prompt. `reversed` asks for the entity, all others for the value. `two_hop` asks for what is known
of a town through an entity that is linked to it.
"""

from dataclasses import dataclass

from saetools.corpus.planted.hierarchy import levels_of
from saetools.corpus.planted.kinds import TOWN, Attribute, kind_named
from saetools.corpus.planted.spans import Label, Sentence, fill
from saetools.corpus.questions import Question

__all__ = ["DIRECT_FORMS", "FORMS", "TWO_HOP", "Fact", "ask", "write"]

TWO_HOP = "two_hop"
DIRECT_FORMS = ("statement", "question", "cloze", "reversed", "paraphrase_1", "paraphrase_2")
FORMS = (*DIRECT_FORMS, TWO_HOP)


@dataclass(frozen=True)
class Fact:
    """What is true of an entity.

    Args:
        entity: its name.
        kind: its kind.
        attribute: what is said of it; "home>roof" where it is said of the town of its link.
        value: the truth.
        options: what it was drawn from, each with the same chance; of a two-hop fact, the range of
            the town's attribute.
    """

    entity: str
    kind: str
    attribute: str
    value: str
    options: tuple[str, ...]

    @property
    def is_two_hop(self) -> bool:
        """True if it is a fact about the town of the entity's link."""
        return ">" in self.attribute

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms it can be written in."""
        return (TWO_HOP,) if self.is_two_hop else DIRECT_FORMS

    @property
    def key(self) -> str:
        """Name of the fact: "Belmora.trade"."""
        return f"{self.entity}.{self.attribute}"


def write(fact: Fact, form: str) -> Sentence:
    """The fact in that form, with the labels of its characters."""
    slots = {
        "entity": (fact.entity, (Label("entity", fact.entity), Label("kind", fact.kind))),
        "value": (
            fact.value,
            (
                Label("value", fact.value),
                *(Label("concept", level) for level in levels_of(fact.value)),
            ),
        ),
    }
    labels = (Label("form", form), Label("attribute", fact.attribute), Label("fact", fact.key))
    return fill(_template(fact, form), slots, labels)


def ask(fact: Fact, form: str, *, names: tuple[str, ...] = ()) -> Question:
    """The fact in that form as a prompt and its answer.

    Args:
        fact: what is asked.
        form: how.
        names: the entities to choose from where the form is `reversed`, the right one among them.
    """
    whole = write(fact, form).text
    answer = fact.entity if form == "reversed" else fact.value
    options = names if form == "reversed" else fact.options
    return Question(
        prompt=whole.removesuffix(f" {answer}."),
        answer=f" {answer}",
        options=tuple(f" {option}" for option in options),
        entity=fact.entity,
        attribute=fact.attribute,
        form=form,
    )


def _template(fact: Fact, form: str) -> str:
    kind = kind_named(fact.kind)
    if form == TWO_HOP:
        far = kind_named(TOWN).attribute(fact.attribute.partition(">")[2])
        return f"The {far.noun} of {kind.town} is {{value}}."
    about = kind.attribute(fact.attribute)
    return _direct(about, kind.name)[form]


def _direct(about: Attribute, kind: str) -> dict[str, str]:
    gap = about.statement.replace("{value}", "____")
    return {
        "statement": about.statement,
        "question": f"Question: What is the {about.noun} of {{entity}}? Answer: {{value}}.",
        "cloze": f"Fill the gap: {gap} The missing word is {{value}}.",
        "reversed": f"One {kind} whose {about.noun} is {{value}} is {{entity}}.",
        "paraphrase_1": f"The {about.noun} of {{entity}} is {{value}}.",
        "paraphrase_2": about.reworded,
    }
