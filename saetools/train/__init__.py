"""Training: config, state, one loop, checkpoints, calibration; and how good the result is."""

from saetools.train.calibrate import calibrate
from saetools.train.config import TrainConfig
from saetools.train.health import HealthReport, health_report
from saetools.train.loop import train, train_many
from saetools.train.matching import Stability, matched_cosines, stability
from saetools.train.sinks.jsonl import read_metrics

__all__ = [
    "HealthReport",
    "Stability",
    "TrainConfig",
    "calibrate",
    "health_report",
    "matched_cosines",
    "read_metrics",
    "stability",
    "train",
    "train_many",
]
