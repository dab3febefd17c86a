"""Do latents keep the attributes of an entity apart? Huang et al. 2024, arXiv:2402.17700."""

from saetools.evaluate.ravel.config import RavelConfig
from saetools.evaluate.ravel.run import RavelArm, RavelResult, ravel

__all__ = ["RavelArm", "RavelConfig", "RavelResult", "ravel"]
