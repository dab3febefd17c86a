"""Settings of the measurement of attributes."""

from dataclasses import dataclass

from saetools.errors import ConfigError

__all__ = ["RavelConfig"]


@dataclass(frozen=True)
class RavelConfig:
    """How attributes are exchanged and masks are found.

    Args:
        keep_error: add what the SAE fails to reconstruct; by default the model sees the decoder's
            output alone, so that what the latents do not hold is lost.
        pairs_per_attribute: pairs of entities to exchange, at most, training and test together.
        max_questions: questions put to the model, at most, drawn by the seed.
        train_fraction: share of the entities that masks are found on.
        epochs: passes over the training pairs.
        lr: of Adam, on the mask.
        batch_pairs: pairs a step.
        start_temperature, end_temperature: what the mask is divided by, at the first and the last
            step, geometric in between.
        max_selected: latents that selection without gradients may take.
    """

    keep_error: bool = False
    pairs_per_attribute: int = 2000
    max_questions: int = 20_000
    train_fraction: float = 0.7
    epochs: int = 2
    lr: float = 1e-3
    batch_pairs: int = 32
    start_temperature: float = 1e-2
    end_temperature: float = 1e-4
    max_selected: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.train_fraction < 1:
            raise ConfigError(f"train_fraction is between 0 and 1, not {self.train_fraction}")
        counts = ("pairs_per_attribute", "max_questions", "epochs", "batch_pairs", "max_selected")
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, not {getattr(self, name)}")
        if not 0 < self.end_temperature <= self.start_temperature:
            raise ConfigError(
                "temperatures fall from start_temperature to end_temperature, above 0"
            )
