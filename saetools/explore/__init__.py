"""Look at an SAE, or at several: self-contained HTML pages that load nothing from the network."""

from saetools.explore.build import explore
from saetools.explore.comparison import Comparison, compare
from saetools.explore.page import Page

__all__ = ["Comparison", "Page", "compare", "explore"]
