"""What a conditional intervention looks at: a number for each token, read off one activation."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError, ShapeError
from saetools.intervene.base import activations_of, check_latents, find_site
from saetools.intervene.operations import LatentOperation, Rows
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["EditSizeTrigger", "LatentTrigger", "ProbeTrigger", "Scorer", "Trigger"]


@dataclass(frozen=True)
class Scorer:
    """A trigger at its place in a model.

    Args:
        hook_name: where it reads.
        device: where it computes.
        trigger: what it computes.
    """

    hook_name: str
    device: torch.device
    trigger: "Trigger"

    def __call__(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
        """The score of each row."""
        return self.trigger.scores(x.to(self.device, torch.float32))


class Trigger(ABC):
    """Something that gives every token a score."""

    type: ClassVar[str]

    @abstractmethod
    def placed(self, model: SubjectModel, hook_name: str, *, strict: bool) -> Scorer:
        """The trigger at its hook in a model, checked to fit; `hook_name` is the edit's."""

    @abstractmethod
    def scores(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
        """The score of each row of float32 activations on the trigger's device."""


@dataclass(frozen=True)
class LatentTrigger(Trigger):
    """The largest activation among some latents.

    Args:
        sae: whose latents.
        latents: which ones.
        hook_name: where; by default the hook that the SAE was trained at.
    """

    type: ClassVar[str] = "latent"
    sae: SAE
    latents: Iterable[int]
    hook_name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "latents", tuple(check_latents(self.sae, self.latents).tolist()))

    def placed(self, model: SubjectModel, hook_name: str, *, strict: bool) -> Scorer:  # noqa: ARG002
        """The trigger in a model."""
        site = find_site(model, self.sae, hook_name=self.hook_name, strict=strict)
        return Scorer(site.hook_name, self.sae.device, self)

    def scores(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
        """The score of each row."""
        chosen = torch.tensor(self.latents, device=self.sae.device)
        return activations_of(self.sae.encode(x), chosen)[0].amax(1)


@dataclass(frozen=True)
class EditSizeTrigger(Trigger):
    """ItD's score: how much an operation would change the activation, ‖x' - x‖² / d_in.

    The mean of it over a text is the paper's classifier (Nan et al. 2025, arXiv:2503.09446), with
    the SAE's reconstruction error left out, so badly reconstructed texts do not look like targets.

    Args:
        sae: whose latents.
        operation: e.g. `Scale({4: -8.0})`; the same that will be applied, or another.
        hook_name: where; by default the hook that the SAE was trained at.
    """

    type: ClassVar[str] = "edit_size"
    sae: SAE
    operation: LatentOperation
    hook_name: str | None = None

    def __post_init__(self) -> None:
        check_latents(self.sae, self.operation.chosen)

    def placed(self, model: SubjectModel, hook_name: str, *, strict: bool) -> Scorer:  # noqa: ARG002
        """The trigger in a model."""
        site = find_site(model, self.sae, hook_name=self.hook_name, strict=strict)
        return Scorer(site.hook_name, self.sae.device, self)

    def scores(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
        """The score of each row."""
        chosen = torch.tensor(self.operation.chosen, device=x.device)
        old = activations_of(self.sae.encode(x), chosen)[0]
        none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        change = self.operation.new(old, Rows(x.norm(dim=-1), none, none)) - old
        moved = change @ self.sae.W_dec.detach()[chosen].float()
        return moved.square().sum(-1) / x.shape[1]


@dataclass(frozen=True)
class ProbeTrigger(Trigger):
    """A linear probe: weightᵀx + bias.

    Args:
        weight: (d_in,).
        bias: a number.
        hook_name: where it reads; by default where the intervention acts.
    """

    type: ClassVar[str] = "probe"
    weight: Sequence[float] | Tensor
    bias: float = 0.0
    hook_name: str | None = None

    def __post_init__(self) -> None:
        weight = torch.as_tensor(self.weight, dtype=torch.float32).detach()
        if weight.ndim != 1 or not bool(weight.isfinite().all()):
            raise ShapeError(
                f"a probe has one finite weight for each entry of the activation, (d_in,); got "
                f"shape {tuple(weight.shape)}; pass e.g. classifier.coef_[0]"
            )
        object.__setattr__(self, "weight", weight)

    def placed(self, model: SubjectModel, hook_name: str, *, strict: bool) -> Scorer:  # noqa: ARG002
        """The trigger in a model."""
        found = model.resolve(self.hook_name or hook_name)
        weight = torch.as_tensor(self.weight)
        if model.width(found) != len(weight):
            raise ShapeError(
                f"the probe has {len(weight)} weights, but {found} of {model.name} has width "
                f"{model.width(found)}; use the hook that it was fitted at"
            )
        return Scorer(found, model.device, replace(self, weight=weight.to(model.device)))

    def scores(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
        """The score of each row."""
        return x @ torch.as_tensor(self.weight) + self.bias

    @classmethod
    def fitted(
        cls,
        positive: Float[Tensor, "n d_in"],
        negative: Float[Tensor, "m d_in"],
        *,
        hook_name: str | None = None,
        ridge: float = 1e-2,
    ) -> "ProbeTrigger":
        """The linear discriminant of two sets of rows; its threshold 0 lies between their means.

        Args:
            ridge: added to the pooled covariance, as a fraction of its mean variance.
        """
        high, low = positive.double(), negative.double()
        if min(len(high), len(low)) < 2:
            raise ConfigError(
                f"a probe needs at least two rows of each kind; got {len(high)} and {len(low)}"
            )
        means = high.mean(0), low.mean(0)
        rest = torch.cat([high - means[0], low - means[1]])
        covariance = rest.T @ rest / len(rest)
        scale = covariance.diagonal().mean().clamp_min(1e-12)
        covariance += ridge * scale * torch.eye(len(covariance), dtype=covariance.dtype)
        weight = torch.linalg.solve(covariance, means[0] - means[1])
        bias = -float(weight @ (means[0] + means[1]) / 2)
        return cls(weight.float(), bias, hook_name)
