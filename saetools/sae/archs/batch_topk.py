"""BatchTopK: the k·n largest pre-activations of a batch, a threshold at inference (2412.06410).

In training the batch shares a budget of k latents a token, so that hard tokens get more. At
inference no token may depend on its neighbours, so one global threshold takes the budget's place;
`saetools.train` finds it by calibration. An SAE whose threshold was never set refuses to encode.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from saetools.errors import NotFittedError
from saetools.sae.archs._k_sparse import KSparse, KSparseConfig
from saetools.sae.base import ARCHS
from saetools.sae.config import SAEConfig
from saetools.sae.objective import Objective
from saetools.sae.selection import Encoder, Selection, select_above, select_batch_topk
from saetools.types import SparseLatents

__all__ = ["BatchTopK", "BatchTopKConfig"]


class BatchTopKConfig(KSparseConfig):
    """Fields of a BatchTopK SAE."""

    type: Literal["batch_topk"] = Field(default="batch_topk", description="this architecture")


@ARCHS.register("batch_topk")
class BatchTopK(KSparse):
    """Sparse autoencoder with k active latents a token on average."""

    Config: ClassVar[type[KSparseConfig]] = BatchTopKConfig
    config: KSparseConfig
    threshold: Tensor
    """Inference threshold, a scalar in the units of the pre-activations; NaN until it is set."""

    def __init__(
        self, config: SAEConfig, *, meta: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, meta=meta, seed=seed)
        self.register_buffer("threshold", torch.tensor(math.nan))

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """Every pre-activation above the threshold.

        Raises:
            NotFittedError: the threshold was never calibrated.
        """
        self._check_width(x)
        threshold = float(self.threshold)
        if math.isnan(threshold):
            raise NotFittedError(
                f"encode() of a {self.config.type} SAE needs its inference threshold, which was "
                "never set; train() calibrates it, or call saetools.train.calibrate(sae, store)"
            )
        encoder = Encoder(self.W_enc_rows, self.b_enc)
        chosen = select_above(x - self.b_dec, encoder, threshold=threshold)
        return chosen.padded(self.config.n_latents)

    def _select(self, centred: Tensor, encoder: Encoder, objective: Objective) -> Selection:
        k = objective.k or self.config.k
        return select_batch_topk(centred, encoder, k=k, hint=objective.hint)

    def _scaled_names(self) -> tuple[str, ...]:
        return (*super()._scaled_names(), "threshold")
