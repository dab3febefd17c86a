"""Feature absorption: a latent that should fire for a concept is silent, and others stand in.

Chanin et al. 2024, arXiv:2409.14507, in the form of SAEBench (Karvonen et al. 2025,
arXiv:2503.09532); on planted hierarchies the hole rate of Bussmann et al. 2025, arXiv:2503.17547.
"""

from saetools.evaluate.absorption.formulas import Absorbed, absorbed
from saetools.evaluate.absorption.hierarchy import hierarchy_tally
from saetools.evaluate.absorption.letters import letter_tally, letters_of, vocabulary_words
from saetools.evaluate.absorption.reading import Reading, fit_reading
from saetools.evaluate.absorption.tally import Tally

__all__ = [
    "Absorbed",
    "Reading",
    "Tally",
    "absorbed",
    "fit_reading",
    "hierarchy_tally",
    "letter_tally",
    "letters_of",
    "vocabulary_words",
]
