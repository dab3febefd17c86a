"""Why a text got its prediction, and what it would have got with latents set otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass

from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.bottleneck.show import explanation_html, intervention_html

__all__ = ["Contribution", "Explanation", "Intervention"]


@dataclass(frozen=True)
class Contribution:
    """What one latent adds to a class: `value` = `activation` · `weight`."""

    latent: int
    name: str
    activation: float
    weight: float
    value: float


@dataclass(frozen=True, repr=False)
class Explanation:
    """Why a text got its prediction.

    Args:
        predicted: class with the largest probability; probability: that.
        of: class that is explained; against: class that it is compared with, None for none.
        contributions: latents with the largest |z_j W_jc|, largest first; W_jc − W_jd with a class
            d that it is compared with.
        rest: sum over all other latents.
        bias: what the class has without any latent.
    """

    predicted: str
    probability: float
    of: str
    against: str | None
    contributions: tuple[Contribution, ...]
    rest: float
    bias: float

    @property
    def logit(self) -> float:
        """The class' score: all contributions, the rest and the bias together."""
        return sum(c.value for c in self.contributions) + self.rest + self.bias

    def __repr__(self) -> str:
        parts = ", ".join(f"{c.name} {c.value:+.2f}" for c in self.contributions)
        return f"Explanation({self.predicted!r} {self.probability:.2f}; {self.of!r}: {parts})"

    def _repr_html_(self) -> str:
        return explanation_html(self)


@dataclass(frozen=True, repr=False)
class Intervention:
    """A prediction before and after latents were set.

    Args:
        classes: names; before, after: their probabilities, (n_classes,).
        changed: activation of each latent before and after.
        unused: latents among them that the head does not read, so they cannot matter.
    """

    classes: tuple[str, ...]
    before: Floats
    after: Floats
    changed: Mapping[int, tuple[float, float]]
    unused: tuple[int, ...]

    @property
    def predicted(self) -> tuple[str, str]:
        """Class with the largest probability before and after."""
        return self.classes[int(self.before.argmax())], self.classes[int(self.after.argmax())]

    def __repr__(self) -> str:
        before, after = self.predicted
        return (
            f"Intervention({before!r} {self.before.max():.2f} -> {after!r} {self.after.max():.2f})"
        )

    def _repr_html_(self) -> str:
        return intervention_html(self)
