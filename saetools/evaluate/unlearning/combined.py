"""The combined score: a harmonic mean, in which any low part pulls the whole down.

    S = HM(E, F, N, U, L), each clipped to 0..1; 0 if any of them is 0.

E efficacy, F form robustness, N neighbours kept, U utility, L resistance to relearning. Range 0 to
1, higher is better. Source: card 20 of our methods, section H. S does not see residue and privacy:
read them beside it.

A part that could not be measured is never passed over in silence: unless another part is 0, which
decides, S is not given, and the mean of the rest is called `partial_score`.
"""

from collections.abc import Mapping

import numpy as np

from saetools.evaluate.base import Figure
from saetools.evaluate.bootstrap import Estimate, Floats
from saetools.evaluate.unlearning.bench import Finding
from saetools.evaluate.unlearning.candidate import Missing
from saetools.evaluate.unlearning.efficacy import EFFICACY, NEIGHBOURS
from saetools.evaluate.unlearning.forms import FORM_ROBUSTNESS
from saetools.evaluate.unlearning.relearning import RELEARN_RESISTANCE
from saetools.evaluate.unlearning.utility import UTILITY

__all__ = ["PARTS", "combined_score", "harmonic_mean", "partial_score"]

PARTS = (EFFICACY, FORM_ROBUSTNESS, NEIGHBOURS, UTILITY, RELEARN_RESISTANCE)
_SCORE = Figure("score", "S: harmonic mean of E, F, N, U and L", "higher", (0, 1))


def harmonic_mean(*parts: Floats) -> Floats:
    """Harmonic mean of parts clipped to 0..1; 0 where any is 0, NaN where any is NaN."""
    table = np.clip(np.stack([np.asarray(part, dtype=np.float64) for part in parts]), 0, 1)
    with np.errstate(divide="ignore"):
        return np.asarray(len(table) / (1 / table).sum(axis=0))


def combined_score(parts: Mapping[str, Estimate]) -> Finding:
    """S from the parts by name.

    Raises:
        Missing: a part was not measured, and none of the others is 0.
    """
    lacking = [figure.name for figure in PARTS if figure.name not in parts]
    if not lacking or any(estimate.value <= 0 for estimate in parts.values()):
        return Finding(_SCORE, Estimate.of(harmonic_mean, *parts.values()))
    raise Missing(f"not measured: {', '.join(lacking)}")


def partial_score(parts: Mapping[str, Estimate]) -> Finding:
    """The harmonic mean of the parts that were measured."""
    names = ", ".join(figure.name for figure in PARTS if figure.name in parts)
    figure = Figure("partial_score", f"harmonic mean of {names} only; not S", "higher", (0, 1))
    return Finding(figure, Estimate.of(harmonic_mean, *parts.values()))
