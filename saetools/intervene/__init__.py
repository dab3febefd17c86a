"""Act on a model through its sparse autoencoder, or along directions: steer, ablate, splice.

Each is a context manager; inside the block every forward pass of the model is edited, generation
included, and after the block nothing remains. `steer` and `ablate` are the friendly verbs;
`intervene` takes several requests, of any operation, at any tokens, under any condition.
"""

from saetools.intervene.ablate import AblationMode, ablate
from saetools.intervene.apply import intervene
from saetools.intervene.base import Site
from saetools.intervene.conditions import Condition
from saetools.intervene.directions import Direction
from saetools.intervene.operations import (
    OPERATIONS,
    Add,
    AddDirection,
    CapProjection,
    Clamp,
    Mean,
    ProjectOut,
    Resample,
    Scale,
    SetProjection,
    Zero,
    in_units_of,
)
from saetools.intervene.positions import Positions
from saetools.intervene.probe import Firing, LatentEffect, Probe, ProbeSummary
from saetools.intervene.request import Request
from saetools.intervene.splice import splice
from saetools.intervene.steer import StrengthUnit, steer
from saetools.intervene.token_classes import TOKEN_CLASSES
from saetools.intervene.triggers import EditSizeTrigger, LatentTrigger, ProbeTrigger

__all__ = [
    "OPERATIONS",
    "TOKEN_CLASSES",
    "AblationMode",
    "Add",
    "AddDirection",
    "CapProjection",
    "Clamp",
    "Condition",
    "Direction",
    "EditSizeTrigger",
    "Firing",
    "LatentEffect",
    "LatentTrigger",
    "Mean",
    "Positions",
    "Probe",
    "ProbeSummary",
    "ProbeTrigger",
    "ProjectOut",
    "Request",
    "Resample",
    "Scale",
    "SetProjection",
    "Site",
    "StrengthUnit",
    "Zero",
    "ablate",
    "in_units_of",
    "intervene",
    "splice",
    "steer",
]
