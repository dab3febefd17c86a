"""The two ways in which k latents a token are chosen, shared by the architectures that take either.

topk: the k largest pre-activations of each token, in training and at inference
(Gao et al. 2024, arXiv:2406.04093).

batch_topk: in training the batch shares a budget of k latents a token, so that hard tokens get more
(Bussmann et al. 2024, arXiv:2412.06410). At inference no token may depend on its neighbours, so one
global threshold takes the budget's place; `saetools.train` finds it by calibration. An SAE whose
threshold was never set refuses to encode.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import NotFittedError
from saetools.sae.archs._k_sparse import KSparse
from saetools.sae.config import SAEConfig
from saetools.sae.objective import Objective
from saetools.sae.selection import (
    Encoder,
    Selection,
    flat,
    select_above,
    select_batch_topk,
    select_topk,
)
from saetools.types import SparseLatents

__all__ = ["Rule", "Selected"]

Rule = Literal["topk", "batch_topk"]


class Selected(KSparse):
    """A k-sparse autoencoder that selects by token or by batch, as `rule` says."""

    threshold: Tensor
    """Inference threshold of batch_topk in the units of pre-activations: one, or one a latent."""

    def __init__(
        self, config: SAEConfig, *, meta: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, meta=meta, seed=seed)
        if self.rule == "batch_topk":
            self.register_buffer("threshold", torch.full(self._threshold_shape(), math.nan))

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """How the active latents are chosen."""

    @property
    def calibrated_l0(self) -> float | None:
        """k, where a threshold is needed."""
        return float(self.config.k) if self.rule == "batch_topk" else None

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """The k largest positive pre-activations of each token, or every one above the threshold.

        Raises:
            NotFittedError: the threshold was never calibrated.
        """
        self._check_width(x)
        encoder = Encoder(self.W_enc_rows, self.b_enc)
        if self.rule == "topk":
            return select_topk(self._centred(x), encoder, k=self.config.k)
        if bool(self.threshold.isnan().any()):
            raise NotFittedError(
                f"encode() of a {self.config.type} SAE needs its inference threshold, which was "
                "never set; train() calibrates it, or call saetools.train.calibrate(sae, store)"
            )
        threshold = self.threshold if self.threshold.ndim else float(self.threshold)
        chosen = select_above(self._centred(x), encoder, threshold=threshold)
        return chosen.padded(self.config.n_latents)

    def values_above(self, x: Float[Tensor, "n d_in"], floor: float) -> Float[Tensor, " nnz"]:
        """All pre-activations above `floor` and above zero, without (n, n_latents) in memory."""
        self._check_width(x)
        encoder = Encoder(self.W_enc_rows, self.b_enc)
        return select_above(self._centred(x), encoder, threshold=floor).values

    def _select(self, centred: Tensor, encoder: Encoder, objective: Objective) -> Selection:
        k = objective.k or self.config.k
        if self.rule == "topk":
            return flat(select_topk(centred, encoder, k=k))
        return select_batch_topk(centred, encoder, k=k, hint=objective.hint)

    def _threshold_shape(self) -> tuple[int, ...]:
        """One threshold for all latents, unless an architecture says otherwise."""
        return ()

    def _scaled_names(self) -> tuple[str, ...]:
        inherited = super()._scaled_names()
        return (*inherited, "threshold") if self.rule == "batch_topk" else inherited
