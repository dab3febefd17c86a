"""Kinds of entities and their attributes: what can be asked of each, and what may be the answer.

A value is drawn with equal chances from the attribute's range, so who knows nothing is right once
in `len(values)`. The values of one attribute are used by no other. An attribute without values of
its own is a link: its value is one of the towns that are linked to.
"""

from dataclasses import dataclass

from saetools.corpus.planted.hierarchy import TREES

__all__ = ["KINDS", "TOWN", "Attribute", "Kind", "kind_named"]


@dataclass(frozen=True)
class Attribute:
    """One thing that is known of every entity of a kind.

    Args:
        name: what it is called in facts and questions.
        noun: the same in a sentence: "The NOUN of Belmora is ...".
        statement: a sentence with {entity} and, as its last word, {value}.
        reworded: another one.
        values: what it may be; () of a link.
    """

    name: str
    noun: str
    statement: str
    reworded: str
    values: tuple[str, ...] = ()

    @property
    def is_link(self) -> bool:
        """True if the value is a town."""
        return not self.values


@dataclass(frozen=True)
class Kind:
    """A kind of entities.

    Args:
        name: what it is called, also in sentences.
        share: part of all entities that are of this kind.
        attributes: what is known of each of them.
        town: the town of the link, in words with {entity}; "" where there is no link.
    """

    name: str
    share: float
    attributes: tuple[Attribute, ...]
    town: str = ""

    @property
    def link(self) -> Attribute | None:
        """The attribute whose value is a town."""
        return next((a for a in self.attributes if a.is_link), None)

    def attribute(self, name: str) -> Attribute:
        """The attribute of that name."""
        return next(a for a in self.attributes if a.name == name)


def _of(name: str, noun: str, statement: str, reworded: str, values: str = "") -> Attribute:
    written = [f"{{entity}} {text} {{value}}." for text in (statement, reworded)]
    return Attribute(name, noun, written[0], written[1], tuple(values.split()))


TOWN = "town"
_ANIMALS, _TOOLS = TREES
KINDS = (
    Kind(
        "person",
        0.30,
        (
            _of(
                "trade",
                "trade",
                "works as a",
                "earns a living as a",
                "baker weaver miller potter sailor tailor carver mason farmer hunter painter "
                "barber shepherd doctor lawyer porter",
            ),
            _of(
                "coat",
                "coat colour",
                "wears a coat of",
                "is seen every winter in",
                "red blue green black white brown grey pink purple yellow",
            ),
            _of(
                "drink",
                "favourite drink",
                "likes to drink",
                "always asks for a cup of",
                "tea coffee milk cider juice cocoa wine lemonade",
            ),
            _of(
                "fear",
                "greatest fear",
                "is afraid of",
                "cannot sleep because of",
                "spiders thunder ghosts heights snakes darkness wolves crowds mirrors needles",
            ),
            _of(
                "game",
                "favourite game",
                "loves to play",
                "spends every Sunday at",
                "chess dice cards marbles darts dominoes",
            ),
            _of("home", "home town", "lives in", "has a house in"),
        ),
        "the town where {entity} lives",
    ),
    Kind(
        TOWN,
        0.25,
        (
            _of(
                "roof",
                "roof material",
                "has roofs made of",
                "covers its houses with",
                "slate straw copper tin clay stone glass timber",
            ),
            _of(
                "feast",
                "feast month",
                "holds its feast in",
                "is full of guests in",
                "January February March April May June July August September October November "
                "December",
            ),
            _of(
                "dish",
                "famous dish",
                "is famous for its",
                "serves every visitor some",
                "stew pie cheese bread pudding sausage dumplings pancakes omelette salad",
            ),
            _of(
                "trading",
                "main ware",
                "grew rich by selling",
                "sends to other towns its",
                "wool salt honey silk iron coal grain candles pepper leather paper soap",
            ),
            _of(
                "emblem",
                "emblem",
                "shows on its flag a",
                "has above its gate a",
                "lion bear crown star sword rose wheel key tower dragon",
            ),
        ),
    ),
    Kind(
        "animal",
        0.25,
        (
            _of(
                "species",
                "species",
                "belongs to the species",
                "was entered in the list as",
                " ".join(_ANIMALS.leaves),
            ),
            _of(
                "food",
                "favourite food",
                "likes to eat",
                "comes running for",
                "berries nuts worms oats carrots clover mushrooms lettuce",
            ),
            _of(
                "den",
                "sleeping place",
                "sleeps in a",
                "hides by day in a",
                "cave barn cellar barrel ditch tent chimney wardrobe",
            ),
            _of(
                "temper",
                "temper",
                "is by nature",
                "is known to be",
                "shy bold calm lazy curious stubborn",
            ),
            _of(
                "collar",
                "collar material",
                "has a collar of",
                "was given a ribbon of",
                "velvet linen cotton satin hemp felt lace nylon",
            ),
            _of("shelter", "shelter town", "is kept in", "came to a shelter in"),
        ),
        "the town where {entity} is kept",
    ),
    Kind(
        "tool",
        0.20,
        (
            _of(
                "sort",
                "sort",
                "is an object of the sort",
                "was bought as a",
                " ".join(_TOOLS.leaves),
            ),
            _of(
                "material",
                "material",
                "is made of",
                "was worked from",
                "silver bronze ivory marble amber brass steel gold jade pewter",
            ),
            _of(
                "carving",
                "carving",
                "bears the carving of a",
                "is decorated with a",
                "spiral skull ladder mask feather leaf hand moon",
            ),
            _of(
                "price",
                "price in coins",
                "costs as many coins as",
                "was sold for a number of coins,",
                "two three four five six seven eight nine ten twelve",
            ),
            _of(
                "lining",
                "case wood",
                "lies in a case of",
                "is stored in a box of",
                "oak pine birch walnut cherry cedar maple willow",
            ),
            _of("origin", "town of origin", "was made in", "comes from a workshop in"),
        ),
        "the town where {entity} was made",
    ),
)


def kind_named(name: str) -> Kind:
    """The kind of that name."""
    return next(kind for kind in KINDS if kind.name == name)
