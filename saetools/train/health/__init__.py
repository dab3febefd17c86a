"""The health of a trained SAE: what it gives back, how its latents are used, what looks wrong."""

from saetools.train.health.measure import health_report
from saetools.train.health.report import HealthReport, WidthHealth
from saetools.train.health.weights import Spread

__all__ = ["HealthReport", "Spread", "WidthHealth", "health_report"]
