"""What an intervention does to latents or along a direction: one file an operation.

`OPERATIONS` finds them by file name, which is their `type` in a recipe.
"""

from saetools.intervene.operations._base import (
    OPERATIONS,
    DirectionOperation,
    LatentOperation,
    Operation,
    Rows,
    in_units_of,
)
from saetools.intervene.operations.add import Add
from saetools.intervene.operations.add_direction import AddDirection
from saetools.intervene.operations.cap_projection import CapProjection
from saetools.intervene.operations.clamp import Clamp
from saetools.intervene.operations.mean import Mean
from saetools.intervene.operations.project_out import ProjectOut
from saetools.intervene.operations.resample import Resample
from saetools.intervene.operations.scale import Scale
from saetools.intervene.operations.set_projection import SetProjection
from saetools.intervene.operations.zero import Zero

__all__ = [
    "OPERATIONS",
    "Add",
    "AddDirection",
    "CapProjection",
    "Clamp",
    "DirectionOperation",
    "LatentOperation",
    "Mean",
    "Operation",
    "ProjectOut",
    "Resample",
    "Rows",
    "Scale",
    "SetProjection",
    "Zero",
    "in_units_of",
]
