"""What the k-sparse family shares: few active latents a token, so gradients of few rows a token.

The loss of the whole family is one formula over levels (`saetools.sae.nested`). Its gradients are
written out here once, in factored form; `loss` gives the same to autograd.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from saetools.sae import ops
from saetools.sae.aux_k import AuxFit, aux_fit
from saetools.sae.base import SAE, Gradients
from saetools.sae.config import SAEConfig
from saetools.sae.nested import Levels, NestedFit, nested_fit, of_all_rows
from saetools.sae.objective import FIRED, Loss, Objective
from saetools.sae.scratch import Scratch
from saetools.sae.selection import Encoder, Selection
from saetools.sae.sharing import Ranks

__all__ = ["KSparse", "KSparseConfig"]


class KSparseConfig(SAEConfig):
    """An SAE whose sparsity is set by a number of active latents."""

    k: int = Field(
        default=32, ge=1, description="active latents a token (on average, where it varies)"
    )

    @model_validator(mode="after")
    def _k_fits(self) -> "KSparseConfig":
        if self.k > self.n_latents:
            raise ValueError(
                f"k is {self.k} but the dictionary has only {self.n_latents} latents; "
                f"k must lie in 1..n_latents"
            )
        return self


class KSparse(SAE):
    """A sparse autoencoder that selects its active latents before anything else is computed."""

    config: KSparseConfig
    takes_compute_dtype: ClassVar[bool] = True

    @property
    def by_latent(self) -> tuple[str, ...]:
        """Both matrices and b_enc; an architecture that compares a token's latents says ()."""
        return ("W_enc_rows", "W_dec", "b_enc")

    @abstractmethod
    def _select(
        self, centred: Float[Tensor, "n d_in"], encoder: Encoder, objective: Objective
    ) -> Selection:
        """The active latents of a training batch, ordered by (token, latent)."""

    def select(
        self, x: Float[Tensor, "n d_in"], objective: Objective, *, scratch: Scratch | None = None
    ) -> Selection:
        """The active latents of a training batch, ordered by (token, latent); no gradient.

        Where processes share the step, x has this one's rows, and the latents are its own, counted
        from its first.
        """
        self._check_width(x)
        shadow = objective.shadows.get("W_enc_rows")
        weight = self.W_enc_rows.detach() if shadow is None else shadow
        encoder = Encoder(
            weight,
            self.b_enc.detach().to(weight.dtype),
            objective.compute_dtype,
            scratch,
            objective.rows,
            objective.latents,
        )
        chosen = self._select(self._centred(x).to(weight.dtype), encoder, objective)
        return chosen if shadow is None else chosen._replace(values=chosen.values.float())

    def loss(
        self,
        x: Float[Tensor, "n d_in"],
        objective: Objective,
        *,
        target: Float[Tensor, "n d_out"] | None = None,
    ) -> Loss:
        """Training loss of a batch, differentiable in the weights (not in x).

        total = reconstruction + aux_coefficient · AuxK, both as fractions of a variance: the
        reconstruction error of that of the target, the AuxK error of that of the residual
        (Gao et al. 2024, arXiv:2406.04093).
        """
        found: list[Loss] = []
        total: Tensor = _FactoredLoss.apply(  # type: ignore[no-untyped-call]  # torch is untyped here
            self, x, objective, target, found, *self.parameters()
        )
        return found[0]._replace(total=total)

    @torch.no_grad()
    def gradients(
        self,
        x: Float[Tensor, "n d_in"],
        objective: Objective,
        *,
        target: Float[Tensor, "n d_out"] | None = None,
        scratch: Scratch | None = None,
    ) -> tuple[Loss, Gradients]:
        """The loss of a batch, and its gradients as sums of a few rows a token."""
        scratch = scratch or Scratch()
        rows, latents, centred = objective.rows, objective.latents, self._centred(x)
        mine = rows.span(len(x))
        levels = self.levels(self.select(x[mine], objective, scratch=scratch), objective)
        to_decode = self._to_decode(x, target)[mine]
        W_dec = objective.shadows.get("W_dec", self.W_dec)
        # What processes add up between them stays in full precision.
        W_dec = W_dec if latents.size == 1 else self.W_dec
        fit = nested_fit(levels, W_dec, to_decode, scratch, latents)
        aux = self._aux_fits(centred[mine], levels, fit, objective)
        levels, fit = of_all_rows(levels, fit, rows)
        values = levels.values()
        per_error = 1 / (objective.variance * max(len(x), 1))
        weighted = (w * e for w, e in zip(fit.weights, fit.errors, strict=True))
        total = sum(weighted, fit.errors.new_zeros(())) * per_error
        aux_loss = sum((a.loss for a in aux), total.new_zeros(()))
        loss = Loss(
            total + objective.aux_coefficient * aux_loss,
            fit.errors[levels.own] * per_error,
            aux_loss,
            # Whole numbers: the order of addition does not matter.
            torch.zeros_like(self.b_enc).index_add_(
                0, levels.chosen.latents, (values > FIRED).to(self.b_enc.dtype)
            ),
            latents.sum((values > 0).sum().to(x.dtype)),
            _lowest(values, latents),
        )  # fmt: skip
        return loss, self._gradients(x, centred, levels, fit, -2 * per_error, aux, objective)

    def levels(self, chosen: Selection, objective: Objective) -> Levels:  # noqa: ARG002
        """How the active latents nest; one level unless an architecture says otherwise."""
        return Levels(chosen, chosen.rows, chosen.bounds, (1.0,))

    def _centred(self, x: Tensor) -> Tensor:
        """What the encoder reads."""
        return x - self.b_dec.detach()

    def _to_decode(self, x: Tensor, target: Tensor | None) -> Tensor:
        """What Σ value · W_dec should equal."""
        return self._target(x, target) - self.b_dec.detach()

    def _aux_fits(
        self, centred: Tensor, levels: Levels, fit: NestedFit, objective: Objective
    ) -> list[AuxFit]:
        """AuxK of the batch: none, or one for all dead latents."""
        which = self._dead(objective)
        if objective.latents.total(len(which)) == 0:
            return []
        return [self._aux_fit(centred, fit.residual(levels.own), which, objective)]

    def _dead(self, objective: Objective) -> Tensor:
        """The latents that AuxK should revive, ascending; none where it is off."""
        if objective.dead is None or objective.aux_coefficient == 0:
            return torch.empty(0, dtype=torch.int64, device=self.device)
        return objective.dead.nonzero().squeeze(-1)

    def _aux_fit(
        self, centred: Tensor, residual: Tensor, which: Tensor, objective: Objective
    ) -> AuxFit:
        return aux_fit(
            centred,
            residual,
            which,
            k_aux=objective.k_aux or max(1, self.config.d_in // 2),
            W_enc_rows=self.W_enc_rows,
            b_enc=self.b_enc,
            W_dec=self.W_dec,
            rows=objective.rows,
            latents=objective.latents,
        )

    def _gradients(
        self,
        x: Tensor,  # noqa: ARG002 - for architectures with more parameters
        centred: Tensor,
        levels: Levels,
        fit: NestedFit,
        factor: float,
        aux: list[AuxFit],
        objective: Objective,
    ) -> Gradients:
        """Gradients of every parameter; a row of `fit.sources` times `factor` is one by x_hat."""
        chosen, weight = levels.chosen, objective.aux_coefficient
        order = ops.order_by_latent(chosen.latents, len(self.W_dec))
        grad_values = torch.where(chosen.values > 0, fit.dots * factor, 0.0)
        read = objective.shadows.get("W_enc_rows", self.W_enc_rows)
        encoder = ops.row_sums(grad_values, chosen.rows, order, centred.to(read.dtype))
        b_enc = ops.sum_ordered(encoder.values, order.offsets).to(self.b_enc.dtype)
        for part in aux:
            b_enc.index_add_(0, part.which, part.b_enc, alpha=weight)
        # b_dec is in every x_hat_l as block 0 is, and taken off what the encoder reads.
        by_token = fit.sources.view(-1, len(fit.weights), self.d_out)
        from_centre = self._from_centre(b_enc)
        if isinstance(from_centre, Tensor):
            from_centre = objective.latents.sum(from_centre)
        b_dec = by_token[:, 0].sum(0, dtype=self.b_dec.dtype) * factor - from_centre
        decoder = ops.row_sums(chosen.values * factor, levels.bags, order, fit.sources)
        return {
            "W_dec": ops.RowGradient(
                (decoder,), tuple(ops.SomeRows(a.which, a.W_dec * weight) for a in aux)
            ),
            "W_enc_rows": ops.RowGradient(
                (encoder,), tuple(ops.SomeRows(a.which, a.W_enc_rows * weight) for a in aux)
            ),
            "b_enc": ops.RowGradient(whole=b_enc),
            "b_dec": ops.RowGradient(whole=b_dec),
        }

    def _from_centre(self, grad_b_enc: Tensor) -> Tensor | float:
        """The gradient that b_dec gets through what the encoder reads, with its sign turned.

        Σ over entries of grad · W_enc_rows[latent] needs no gather: b_enc's gradient has the sums.
        """
        return grad_b_enc @ self.W_enc_rows


def _lowest(values: Tensor, latents: Ranks) -> Tensor:
    """The smallest active value of all ranks, infinite when there is none."""
    active = torch.where(values > 0, values, torch.inf)
    own = active.min() if len(values) else values.new_full((), torch.inf)
    return latents.gather(own.unsqueeze(0)).min()


class _FactoredLoss(torch.autograd.Function):
    """The loss for autograd, with the gradients that `KSparse.gradients` wrote out."""

    @staticmethod
    def forward(
        ctx: Any,
        sae: KSparse,
        x: Tensor,
        objective: Objective,
        target: Tensor | None,
        found: list[Loss],
        *parameters: Tensor,
    ) -> Tensor:
        loss, gradients = sae.gradients(x, objective, target=target)
        found.append(loss)
        ctx.gradients = [gradients[name] for name, _ in sae.named_parameters()]
        ctx.save_for_backward(*parameters)
        return loss.total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        whole = (
            gradient.block(0, len(parameter), like=parameter) * grad
            for gradient, parameter in zip(ctx.gradients, ctx.saved_tensors, strict=True)
        )
        return (None, None, None, None, None, *whole)
