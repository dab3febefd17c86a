"""From a subject model and texts to an activation store."""

from saetools.harvest.harvester import harvest

__all__ = ["harvest"]
