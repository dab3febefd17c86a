"""Everyday sentences: a topic, a sentiment and a register, which are drawn apart from each other.

Nothing here names an entity. The grammar is small on purpose: its words are known, so a latent that
stands for a topic, a mood or a manner of speaking can be told from one that stands for a word.
"""

import random
from dataclasses import dataclass

from saetools.corpus.planted.spans import Label, Sentence, fill

__all__ = ["REGISTERS", "SENTIMENTS", "TOPICS", "everyday_sentence"]


@dataclass(frozen=True)
class _Topic:
    """What a topic is about: things, where they are, and what people do there."""

    things: tuple[str, ...]
    places: tuple[str, ...]
    doings: tuple[str, ...]


def _topic(things: str, places: str, doings: str) -> _Topic:
    return _Topic(
        tuple(things.split()),
        tuple(part.strip() for part in places.split(",")),
        tuple(part.strip() for part in doings.split(",")),
    )


_TOPICS = {
    "weather": _topic(
        "wind rain storm cloud frost fog breeze sunshine snow sky",
        "over the hills, in the valley, above the roofs",
        "watched the clouds, waited for the rain, walked through the snow",
    ),
    "kitchen": _topic(
        "soup oven dough pan sauce spoon plate butter dinner pot",
        "on the stove, near the sink, on the shelf",
        "stirred the sauce, peeled the onions, baked a cake",
    ),
    "market": _topic(
        "stall price basket crowd seller coin bargain scale cart shop",
        "on the square, beside the fountain, under the arcade",
        "counted the coins, bought some apples, carried the bags",
    ),
    "travel": _topic(
        "train ticket road bridge luggage map coach journey inn station",
        "across the border, along the coast, behind the tunnel",
        "packed the luggage, missed the train, crossed the bridge",
    ),
    "music": _topic(
        "song melody choir concert rhythm singer chorus dance tune voice",
        "in the hall, on the stage, behind the curtain",
        "sang in the choir, danced until late, clapped to the rhythm",
    ),
    "garden": _topic(
        "hedge lawn flower seed spade pond weed blossom bush orchard",
        "by the fence, behind the shed, around the pond",
        "watered the flowers, pulled the weeds, dug a hole",
    ),
    "school": _topic(
        "lesson pupil desk chalk exam book teacher homework classroom pencil",
        "in the corridor, at the back, beside the blackboard",
        "learned a poem, solved the sums, sharpened the pencils",
    ),
    "sea": _topic(
        "wave boat sail harbour tide shell beach gull island rope",
        "off the shore, beyond the lighthouse, at the pier",
        "rowed to the island, mended the nets, gathered some shells",
    ),
}
_POSITIVE = "lovely splendid cheerful pleasant delightful wonderful charming excellent"
_NEGATIVE = "dreadful awful gloomy nasty horrible miserable terrible disappointing"
_NEUTRAL = "ordinary usual middling average normal common typical regular"
_ADJECTIVES = {
    "positive": _POSITIVE.split(),
    "negative": _NEGATIVE.split(),
    "neutral": _NEUTRAL.split(),
}
_TIMES = ("in the morning", "in the evening", "last week", "on Monday", "yesterday", "at noon")
_FRAMES = {
    "plain": (
        "The {thing} {place} was {adjective}.",
        "We {doing} {time}, and it was {adjective}.",
        "The {thing} seemed {adjective} {time}.",
        "Somebody said that the {thing} was {adjective}.",
    ),
    "formal": (
        "It must be noted that the {thing} {place} was {adjective}.",
        "One may regard the {thing} as {adjective}.",
        "The members of the committee {doing} {time}, which was considered {adjective}.",
        "With regard to the {thing}, it was found to be {adjective} {time}.",
    ),
    "childlike": (
        "Look, look, the {thing} is so {adjective}!",
        "Mummy, we {doing} and it was very very {adjective}!",
        "My {thing} is all {adjective}, yes it is!",
        "Guess what, the {thing} {place} was super {adjective}!",
    ),
}
TOPICS = tuple(_TOPICS)
SENTIMENTS = tuple(_ADJECTIVES)
REGISTERS = tuple(_FRAMES)


def everyday_sentence(rng: random.Random, *, topic: str, sentiment: str, register: str) -> Sentence:
    """A sentence of that topic, sentiment and register.

    Its labels of these three layers are given by whoever writes the text around it.
    """
    about = _TOPICS[topic]
    slots: dict[str, tuple[str, tuple[Label, ...]]] = {
        "thing": (rng.choice(about.things), ()),
        "place": (rng.choice(about.places), ()),
        "doing": (rng.choice(about.doings), ()),
        "adjective": (rng.choice(_ADJECTIVES[sentiment]), ()),
        "time": (rng.choice(_TIMES), ()),
    }
    return fill(rng.choice(_FRAMES[register]), slots, (Label("form", "everyday"),))
