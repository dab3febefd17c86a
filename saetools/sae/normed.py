"""An SAE that reads each token centred and divided by its own spread.

    x' = (x − mean) / (spread + ε)      latents = spread · z(x')
    x_hat = spread · x_hat'(x') + mean = decode(latents) + (spread − 1) · b_dec + mean

z and x_hat' are those of the SAE inside. The map differs from token to token, so it cannot be
folded into weights. Latents are given in the units of x: so `decode` stays linear, and adding a row
of W_dec or taking a latent away does to x what it says. This is how SAEs of other tools are read
that normalise their input (Gao et al. 2024, arXiv:2406.04093); it is not trained here.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from saetools.errors import ConfigError
from saetools.sae.affine import Affine
from saetools.sae.base import SAE
from saetools.sae.config import SAEConfig
from saetools.sae.objective import Loss, Objective
from saetools.types import SparseLatents

__all__ = ["InputNorm", "Normed", "Spread"]


class Spread(NamedTuple):
    """Of each token: what is taken off, what the output is times, and what the input is over."""

    mean: Float[Tensor, "n 1"]
    spread: Float[Tensor, "n 1"]
    divisor: Float[Tensor, "n 1"]


@dataclass(frozen=True)
class InputNorm(ABC):
    """How a token is normalised; one file in `saetools.sae.input_norms` each."""

    @abstractmethod
    def measure(self, x: Float[Tensor, "n d_in"]) -> Spread:
        """What the normalisation of each token depends on."""

    @abstractmethod
    def scaled(self, scale: float) -> "InputNorm":
        """The normalisation that does on x what this one does on scale · x."""

    def __call__(self, sae: SAE) -> "Normed":
        """`sae`, reading normalised tokens."""
        return Normed(sae, self)


class Normed(SAE):
    """An SAE over normalised tokens, which reads raw activations and gives them back."""

    unit_norm_decoder: ClassVar[bool] = False

    def __init__(self, inner: SAE, norm: InputNorm) -> None:
        nn.Module.__init__(self)
        self.config: SAEConfig = inner.config
        self.meta: dict[str, Any] = dict(inner.meta)
        self.norm = norm
        self._parameters = dict(inner._parameters)
        self._buffers = dict(inner._buffers)
        # Not a module of this one: its tensors are ours, and are handed to it at each call.
        object.__setattr__(self, "_form", inner)

    @property
    def inner(self) -> SAE:
        """The SAE over normalised tokens."""
        form: SAE = self.__dict__["_form"]
        twin = copy.copy(form)
        twin._parameters, twin._buffers = self._parameters, self._buffers
        return twin

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """The active latents of each token, in the units of x."""
        self._check_width(x)
        measured = self.norm.measure(x)
        latents = self.inner.encode((x - measured.mean) / measured.divisor)
        return replace(latents, values=latents.values * measured.spread)

    def pre_acts(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n n_latents"]:
        """Encoder output before selection, in the units of x."""
        self._check_width(x)
        measured = self.norm.measure(x)
        return self.inner.pre_acts((x - measured.mean) / measured.divisor) * measured.spread

    def values_above(self, x: Float[Tensor, "n d_in"], floor: float) -> Float[Tensor, " nnz"]:
        """All pre-activations above `floor`, both in the units of the normalised input."""
        measured = self.norm.measure(x)
        return self.inner.values_above((x - measured.mean) / measured.divisor, floor)

    def reconstruct(
        self, latents: SparseLatents, x: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_out"]:
        """x_hat of x; that of `decode`, and what its normalisation took away."""
        measured = self.norm.measure(x)
        offset = (measured.spread - 1) * self.b_dec + measured.mean
        return self.decode(latents) + offset

    def loss(
        self,
        x: Float[Tensor, "n d_in"],  # noqa: ARG002 - the signature of every SAE
        objective: Objective,  # noqa: ARG002
        *,
        target: Float[Tensor, "n d_out"] | None = None,  # noqa: ARG002
    ) -> Loss:
        """Refused: an SAE over normalised tokens is read, not trained.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"this {self.config.type} SAE reads tokens normalised by {type(self.norm).__name__} "
            "and was made by another tool; it can be read, evaluated and acted with, not trained. "
            "Train a new one with train.normalize set"
        )

    def folded(self, inputs: Affine, outputs: Affine | None = None) -> SAE:
        """The SAE that does on raw x what this one does on scale · x.

        Raises:
            ConfigError: the map has more than a scale.
        """
        if outputs is not None or inputs.shift is not None or inputs.matrix is not None:
            raise ConfigError(
                "an SAE over normalised tokens can take up a scale, not a shift or a matrix: its "
                "own normalisation comes after them; leave the activations as they are"
            )
        return Normed(self.inner, self.norm.scaled(inputs.scale))

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> SAE:
        """A twin of the same config that holds `tensors`, by their names in `state_dict`."""
        return Normed(self.inner.with_tensors(tensors), self.norm)

    @property
    def widths(self) -> tuple[int, ...]:
        """Those of the SAE inside."""
        return self.inner.widths

    @property
    def calibrated_l0(self) -> float | None:
        """That of the SAE inside; its threshold is in the units of normalised tokens."""
        return self.inner.calibrated_l0

    def _header(self) -> dict[str, Any]:
        kind = type(self.norm).__module__.rpartition(".")[2]
        return {**super()._header(), "input_norm": {"type": kind, **asdict(self.norm)}}
