"""Sparse autoencoders: architectures, their operations, and their folder on disk."""

from saetools.sae.base import ARCHS, SAE, Loss
from saetools.sae.build import build_sae, sae_config
from saetools.sae.config import SAEConfig
from saetools.sae.selection import Selection

__all__ = ["ARCHS", "SAE", "Loss", "SAEConfig", "Selection", "build_sae", "sae_config"]
