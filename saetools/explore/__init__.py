"""Look at an SAE: one self-contained HTML page of its figures, concepts and latents."""

from saetools.explore.build import explore
from saetools.explore.page import Page

__all__ = ["Page", "explore"]
