"""Act on a model through its sparse autoencoder: steer, ablate, splice.

Each is a context manager; inside the block every forward pass of the model is edited, generation
included, and after the block nothing remains.
"""

from saetools.intervene.ablate import AblationMode, ablate
from saetools.intervene.base import Site
from saetools.intervene.probe import LatentEffect, Probe, ProbeSummary
from saetools.intervene.splice import splice
from saetools.intervene.steer import StrengthUnit, steer

__all__ = [
    "AblationMode",
    "LatentEffect",
    "Probe",
    "ProbeSummary",
    "Site",
    "StrengthUnit",
    "ablate",
    "splice",
    "steer",
]
