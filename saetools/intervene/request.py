"""A request: an operation, what it acts on, where, at which tokens, and when."""

from dataclasses import dataclass

from saetools.errors import ConfigError
from saetools.intervene.conditions import Condition
from saetools.intervene.directions._base import Direction
from saetools.intervene.operations import DirectionOperation, LatentOperation, Operation
from saetools.intervene.positions import Positions, as_positions
from saetools.sae import SAE

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """One thing to do in a running model.

        Request(Clamp({4171: -3.0}), sae=sae, positions="generated")
        Request(ProjectOut(), direction=direction, hook_name="resid_post.2")

    Args:
        operation: what to do.
        sae: whose latents, for an operation on latents.
        direction: along what, for an operation on a direction.
        hook_name: where; by default the hook of the SAE or of the direction.
        positions: at which tokens: `Positions`, or "all", "prompt", "generated", "last", "every".
        when: a condition; None is always.
        keep_error: keep what the SAE does not reconstruct, and add only the difference that the
            operation makes; False puts the edited reconstruction in the activation's place.
        strict: refuse a model other than the one that the SAE was trained on.
        label: what the probe calls it; by default the operation's name.

    Raises:
        ConfigError: the operation and what it should act on do not fit.
    """

    operation: Operation
    sae: SAE | None = None
    direction: Direction | None = None
    hook_name: str | None = None
    positions: Positions | str = "all"
    when: Condition | None = None
    keep_error: bool = True
    strict: bool = True
    label: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", as_positions(self.positions))
        name = self.operation.type
        if isinstance(self.operation, LatentOperation):
            if self.sae is None or self.direction is not None:
                raise ConfigError(f"'{name}' acts on latents; give sae=, and no direction=")
        elif isinstance(self.operation, DirectionOperation):
            if self.direction is None or self.sae is not None:
                raise ConfigError(f"'{name}' acts along a direction; give direction=, and no sae=")
            if not self.keep_error:
                raise ConfigError(f"'{name}' uses no SAE, so there is no error to leave out")

    @property
    def at(self) -> Positions:
        """The positions."""
        return as_positions(self.positions)

    @property
    def name(self) -> str:
        """What the probe calls it."""
        return self.label or self.operation.type
