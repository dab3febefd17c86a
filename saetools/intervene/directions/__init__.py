"""Where directions come from, besides the dictionary: one file a source."""

from saetools.intervene.directions._base import Direction

__all__ = ["Direction"]
