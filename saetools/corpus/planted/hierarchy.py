"""Concepts in levels: animal -> bird -> owl. Of an owl, `bird` and `animal` hold too.

A mention of a leaf carries the labels of all levels above it, a mention of a branch those of the
branch and the root. Whether a latent for `bird` stays silent on "owl" is then a matter of counting
(absorption).
"""

import random
from dataclasses import dataclass

from saetools.corpus.planted.spans import Label, Sentence, fill

__all__ = ["TREES", "Tree", "hierarchy_sentence", "levels_of"]


@dataclass(frozen=True)
class Tree:
    """A root, its branches and their leaves, and what each branch is seen to do.

    Args:
        root: the word of the topmost level.
        branches: leaves of each branch.
        doings: what is said of the branch and its leaves, and of no other branch.
        common: what is said of every branch.
    """

    root: str
    branches: dict[str, tuple[str, ...]]
    doings: dict[str, tuple[str, ...]]
    common: tuple[str, ...]

    @property
    def leaves(self) -> tuple[str, ...]:
        """All leaves, branch by branch."""
        return tuple(leaf for leaves in self.branches.values() for leaf in leaves)


_ANIMALS = Tree(
    root="animal",
    branches={
        "bird": ("owl", "heron", "finch"),
        "fish": ("trout", "carp", "pike"),
        "insect": ("beetle", "moth", "cricket"),
        "mammal": ("fox", "badger", "hare"),
    },
    doings={
        "bird": ("spread its wings", "sang from a branch", "built a nest", "ruffled its feathers"),
        "fish": ("swam up the stream", "flicked its fins", "dived under the weeds"),
        "insect": ("crawled along a leaf", "shook its feelers", "climbed out of its shell"),
        "mammal": ("licked its fur", "fed its young milk", "pricked up its ears"),
    },
    common=("looked for food", "hid from the rain", "slept until noon", "ran away from us"),
)
_TOOLS = Tree(
    root="tool",
    branches={
        "blade": ("knife", "sickle", "hatchet"),
        "vessel": ("jug", "bowl", "kettle"),
        "instrument": ("flute", "drum", "fiddle"),
    },
    doings={
        "blade": ("had to be sharpened", "cut the rope", "left a clean edge"),
        "vessel": ("was filled to the brim", "leaked on the table", "held hot water"),
        "instrument": ("was out of tune", "played a slow song", "gave a clear note"),
    },
    common=(
        "hung on the wall",
        "was lost and found",
        "lay in a drawer",
        "passed from hand to hand",
    ),
)
TREES = (_ANIMALS, _TOOLS)

_ABOVE = {
    word: levels
    for tree in TREES
    for branch, leaves in tree.branches.items()
    for word, levels in [
        (tree.root, (tree.root,)),
        (branch, (tree.root, branch)),
        *((leaf, (tree.root, branch, leaf)) for leaf in leaves),
    ]
}


def levels_of(word: str) -> tuple[str, ...]:
    """The concepts that hold of a level word, the root first; () of any other word."""
    return _ABOVE.get(word, ())


def hierarchy_sentence(rng: random.Random) -> Sentence:
    """A sentence about level words, such as "Like every bird, the owl built a nest."."""
    tree = rng.choice(TREES)
    branch = rng.choice(list(tree.branches))
    leaf = rng.choice(tree.branches[branch])
    doing = rng.choice(tree.doings[branch])
    template = rng.choice(
        (
            f"The {{leaf}} {doing}.",
            f"The {{branch}} {doing}.",
            f"The {{root}} {rng.choice(tree.common)}.",
            f"The {{leaf}} {rng.choice(tree.common)}.",
            f"Like every {{branch}}, the {{leaf}} {doing}.",
            f"Like any other {{root}}, the {{branch}} {rng.choice(tree.common)}.",
            f"{_a(leaf).capitalize()} {{leaf}} is {_a(branch)} {{branch}}.",
            f"Every {{leaf}} is {_a(branch)} {{branch}}, and so it is {_a(tree.root)} {{root}}.",
        )
    )
    slots = {
        name: (word, tuple(Label("concept", level) for level in levels_of(word)))
        for name, word in (("root", tree.root), ("branch", branch), ("leaf", leaf))
    }
    return fill(template, slots, (Label("form", "hierarchy"),))


def _a(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
