"""Transcoder: reads one activation and reconstructs another (Dunefsky et al. 2024, 2406.11944).

    z = selection(u · W_enc + b_enc)      y_hat = z · W_dec + b_dec (+ u · W_skipᵀ)

u is for example the input of an MLP and y its output. Nothing is taken off the input, as b_dec
lives where y does. With `skip` a linear map from u to y is learned beside the latents (Paulo et al.
2025, arXiv:2501.18823); it starts at zero.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from saetools.errors import ShapeError
from saetools.sae import ops
from saetools.sae.affine import Affine
from saetools.sae.archs._k_sparse import KSparseConfig
from saetools.sae.archs._selected import Rule, Selected
from saetools.sae.aux_k import AuxFit
from saetools.sae.base import ARCHS, SAE, Gradients
from saetools.sae.config import SAEConfig
from saetools.sae.nested import Levels, NestedFit
from saetools.sae.objective import Objective
from saetools.types import SparseLatents

__all__ = ["Transcoder", "TranscoderConfig"]


class TranscoderConfig(KSparseConfig):
    """Fields of a transcoder."""

    type: Literal["transcoder"] = Field(default="transcoder", description="this architecture")
    d_out: int | None = Field(
        default=None, ge=1, description="width of the activation that is written; null: d_in"
    )
    target_hook_name: str | None = Field(
        default=None, description="hook of the activation that is written, e.g. mlp_out.8"
    )
    selection: Rule = Field(
        default="topk", description="how active latents are chosen: by token or by batch"
    )
    skip: bool = Field(default=False, description="learn a linear map beside the latents")
    thresholds: Literal["one", "per_latent"] = Field(
        default="one",
        description="of batch_topk at inference: one for all latents, or one a latent (JumpReLU "
        "transcoders of other tools; training finds one for all)",
    )

    @model_validator(mode="after")
    def _thresholds_are_read(self) -> "TranscoderConfig":
        if self.thresholds == "per_latent" and self.selection != "batch_topk":
            raise ValueError(
                f"thresholds is per_latent but selection is {self.selection}, which has none; "
                "set selection: batch_topk"
            )
        return self


@ARCHS.register("transcoder")
class Transcoder(Selected):
    """Sparse map from one activation to another, with k active latents a token."""

    Config = TranscoderConfig
    config: TranscoderConfig
    tied_start: ClassVar[bool] = False

    def __init__(
        self, config: SAEConfig, *, meta: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, meta=meta, seed=seed)
        if self.config.skip:
            self.W_skip = nn.Parameter(torch.zeros(self.d_out, config.d_in))

    @property
    def rule(self) -> Rule:
        """As the config says."""
        return self.config.selection

    @property
    def by_latent(self) -> tuple[str, ...]:
        """As all of the family; none where latents have thresholds, which are not shared."""
        return super().by_latent if self.config.thresholds == "one" else ()

    @property
    def d_out(self) -> int:
        """Width of what is written."""
        return self.config.d_out or self.config.d_in

    @property
    def target_hook_name(self) -> str | None:
        """The hook of what is written."""
        return self.config.target_hook_name

    def pre_acts(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n n_latents"]:
        """Encoder output before selection, whole: n · n_latents values."""
        self._check_width(x)
        return torch.addmm(self.b_enc, x, self.W_enc)

    def reconstruct(
        self, latents: SparseLatents, x: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_out"]:
        """Reconstruction of the target; that of `decode` and, with `skip`, the linear map of x."""
        y_hat = self.decode(latents)
        return y_hat + x @ self.W_skip.T if self.config.skip else y_hat

    def folded(self, inputs: Affine, outputs: Affine | None = None) -> SAE:
        """The transcoder that does on raw activations what this one does on mapped ones."""
        outputs = inputs if outputs is None else outputs
        per_unit = inputs.scale / outputs.scale
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        for name in self._scaled_names():
            state[name] = state[name] / outputs.scale
        state["W_enc_rows"] = _before(inputs, state["W_enc_rows"]) * per_unit
        if outputs.inverse_matrix is not None:
            state["W_dec"] = state["W_dec"] @ outputs.inverse_matrix
        b_dec = outputs.undo(state["b_dec"].unsqueeze(0)).squeeze(0)
        if self.config.skip:
            skip = _before(inputs, state["W_skip"]) * per_unit  # (d_out, d_in)
            if outputs.inverse_matrix is not None:
                skip = outputs.inverse_matrix.T @ skip
            state["W_skip"] = skip
            b_dec = b_dec if inputs.shift is None else b_dec - skip @ inputs.shift
        if inputs.shift is not None:
            state["b_enc"] = state["b_enc"] - state["W_enc_rows"] @ inputs.shift
        return self.with_tensors(state | {"b_dec": b_dec})

    def _threshold_shape(self) -> tuple[int, ...]:
        return () if self.config.thresholds == "one" else (self.config.n_latents,)

    def _centred(self, x: Tensor) -> Tensor:
        return x

    def _from_centre(self, grad_b_enc: Tensor) -> Tensor | float:  # noqa: ARG002
        return 0.0

    def _to_decode(self, x: Tensor, target: Tensor | None) -> Tensor:
        if target is None:
            raise ShapeError(
                f"a transcoder of width {self.config.d_in} to {self.d_out} reconstructs another "
                "activation than it reads, and was given none; set sae.target_hook_name to a hook "
                "of the store, or pass target="
            )
        left = self._target(x, target) - self.b_dec.detach()
        return left - x @ self.W_skip.detach().T if self.config.skip else left

    def _gradients(
        self,
        x: Tensor,
        centred: Tensor,
        levels: Levels,
        fit: NestedFit,
        factor: float,
        aux: list[AuxFit],
        objective: Objective,
    ) -> Gradients:
        found = dict(super()._gradients(x, centred, levels, fit, factor, aux, objective))
        if self.config.skip:
            # As b_dec, the linear map is in every reconstruction.
            by_token = fit.sources.view(-1, len(fit.weights), self.d_out)[:, 0]
            found["W_skip"] = ops.RowGradient(whole=by_token.to(x.dtype).T @ x * factor)
        return found


def _before(map: Affine, weight: Tensor) -> Tensor:
    """Rows that do on raw activations, but for shift and scale, what `weight` does on mapped."""
    return weight if map.matrix is None else weight @ map.matrix.T
