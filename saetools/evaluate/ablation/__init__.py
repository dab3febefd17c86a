"""Does switching off a concept's latents remove the concept? Asked of fresh probes.

Latents are chosen and probes are trained on train documents; every figure is from held-out ones.
"""

from saetools.evaluate.ablation.choose import ChosenLatent, LabelIndex
from saetools.evaluate.ablation.report import ConceptAblationReport, ProbeRow
from saetools.evaluate.ablation.run import ConceptAblationConfig, concept_ablation

__all__ = [
    "ChosenLatent",
    "ConceptAblationConfig",
    "ConceptAblationReport",
    "LabelIndex",
    "ProbeRow",
    "concept_ablation",
]
