"""Sparse autoencoders: architectures, their operations, and their folder on disk."""

from saetools.sae.affine import Affine
from saetools.sae.base import ARCHS, INPUT_NORMS, SAE, Gradients
from saetools.sae.build import build_sae, sae_config
from saetools.sae.config import SAEConfig
from saetools.sae.convert import to_jumprelu
from saetools.sae.normed import Normed
from saetools.sae.objective import Loss, Objective
from saetools.sae.scratch import Scratch
from saetools.sae.selection import Selection

__all__ = [
    "ARCHS",
    "INPUT_NORMS",
    "SAE",
    "Affine",
    "Gradients",
    "Loss",
    "Normed",
    "Objective",
    "SAEConfig",
    "Scratch",
    "Selection",
    "build_sae",
    "sae_config",
    "to_jumprelu",
]
