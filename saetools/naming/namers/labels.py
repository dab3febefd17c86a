"""Name a latent by the document label that it tells, if it tells one beyond doubt.

AUROC: the chance that the latent's strongest activation is larger in a training document of the
label than in another. A label counts if that is high enough (the effect) and its q value low enough
(the evidence: Mann-Whitney, adjusted over all pairs of latent and label by Benjamini and Hochberg
1995, so that among the names at most a share `max_q` is expected to be chance).
"""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from saetools.analysis import LatentIndex
from saetools.errors import ConfigError
from saetools.naming.base import NAMERS, Name, NamerConfig, NamingContext

__all__ = ["Labels", "LabelsConfig"]

_ME = "labels"


class LabelsConfig(NamerConfig):
    """When a label is told well enough for a name."""

    min_auroc: float = Field(
        default=0.8, ge=0.5, le=1, description="training AUROC that a label must have"
    )
    max_q: float = Field(
        default=0.01, gt=0, le=1, description="adjusted p value that it may have at most"
    )


@NAMERS.register(_ME)
class Labels:
    """Names from labelled documents."""

    Config = LabelsConfig

    @staticmethod
    def name(context: NamingContext, latents: Sequence[int], config: LabelsConfig) -> list[Name]:
        """Name latents that tell a label.

        Raises:
            ConfigError: the index has no labels.
        """
        index = context.index
        if not index.labels:
            raise ConfigError(
                f"the namer '{_ME}' needs labels with at least 8 training and 8 held-out "
                "documents, and the index has none; harvest a corpus with labels, or use another "
                "namer"
            )
        found = (_name(index, latent, config) for latent in latents)
        return [name for name in found if name is not None]


def _name(index: LatentIndex, latent: int, config: LabelsConfig) -> Name | None:
    aurocs = np.nan_to_num(index.auroc_train[latent], nan=0.5)
    q = np.nan_to_num(index.label_table.q_train[latent], nan=1.0)
    aurocs = np.where(q <= config.max_q, aurocs, 0.0)
    best = int(aurocs.argmax())
    auroc, label = float(aurocs[best]), index.labels[best]
    if auroc < config.min_auroc:
        return None
    n_docs = int(index.label_table.n_docs_train[best])
    return Name(
        latent,
        f"in {label}",
        confidence=2 * auroc - 1,
        rationale=(
            f"tells the {n_docs:,} training documents of '{label}' from all others with AUROC "
            f"{auroc:.2f}, q {q[best]:.1g}"
        ),
        namer=_ME,
        label=label,
    )
