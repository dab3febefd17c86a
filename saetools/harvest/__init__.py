"""From a subject model and texts to an activation store."""

from saetools.harvest.harvester import harvest
from saetools.harvest.options import HarvestOptions
from saetools.harvest.stream import ActivationStream

__all__ = ["ActivationStream", "HarvestOptions", "harvest"]
