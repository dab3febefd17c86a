"""Training: config, state, one loop, checkpoints, calibration."""

from saetools.train.calibrate import calibrate
from saetools.train.config import TrainConfig
from saetools.train.loop import train
from saetools.train.sinks.jsonl import read_metrics

__all__ = ["TrainConfig", "calibrate", "read_metrics", "train"]
