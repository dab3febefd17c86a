"""Token-level truth: which concepts are on at which rows of a store, and which are parts of which.

A planted world knows this of every token that it writes; `ConceptSpan` says it in characters of a
document's text, `ConceptLabels` in rows of a store.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saetools.errors import ConfigError, ShapeError, UnknownNameError, nearest

__all__ = ["ConceptLabels", "ConceptSpan", "Family"]

Bools = npt.NDArray[np.bool_]


class ConceptSpan(NamedTuple):
    """A concept is on in the characters `start` to `stop` (excluded) of document `doc`."""

    doc: int
    start: int
    stop: int
    concept: str


class Family(NamedTuple):
    """A parent concept and its children, as columns of the labels."""

    parent: int
    children: tuple[int, ...]


@dataclass(frozen=True)
class ConceptLabels:
    """Which concepts are on at each row.

    Args:
        names: of the concepts, each once.
        on: True where a concept is on, shape (n_rows, n_concepts).
        parents: the parent of each concept that has one, by name; a parent is on wherever one of
            its children is.

    Raises:
        ShapeError: the labels have another number of columns than there are names.
        UnknownNameError: a child or parent is not among the names.
        ConfigError: a child is on at a row where its parent is off, or a name comes twice.
    """

    names: tuple[str, ...]
    on: Bools
    parents: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on.ndim != 2 or self.on.shape[1] != len(self.names):
            raise ShapeError(
                f"labels of {len(self.names)} concepts have shape (n_rows, {len(self.names)}); "
                f"got {self.on.shape}; give one column a concept"
            )
        if len(set(self.names)) < len(self.names):
            raise ConfigError("two concepts have one name; name each concept once")
        for child, parent in self.parents.items():
            alone = int((self.column(child) & ~self.column(parent)).sum())
            if alone:
                raise ConfigError(
                    f"{child!r} is said to be a kind of {parent!r}, but is on at {alone} rows "
                    "where that is off; label the parent wherever its child is on"
                )

    def __len__(self) -> int:
        return len(self.on)

    def column(self, name: str) -> Bools:
        """Where a concept is on, (n_rows,).

        Raises:
            UnknownNameError: there is no concept of that name.
        """
        if name not in self.names:
            raise UnknownNameError(
                f"no concept is named {name!r}; nearest: {', '.join(nearest(name, self.names))}"
            )
        column: Bools = self.on[:, self.names.index(name)]
        return column

    @property
    def families(self) -> tuple[Family, ...]:
        """Every parent with its children, in the order of the parents' columns."""
        found: dict[int, list[int]] = {}
        for child, parent in self.parents.items():
            found.setdefault(self.names.index(parent), []).append(self.names.index(child))
        return tuple(Family(parent, tuple(sorted(found[parent]))) for parent in sorted(found))
