"""Weights & Biases: one run of theirs for each run folder of ours.

    pip install "saetools[wandb]"
    saetools train run.yaml "train.log_to=[wandb]"       # after `wandb login`
    WANDB_MODE=offline saetools train run.yaml "train.log_to=[wandb]"   # `wandb sync` later

Project, entity and mode come from wandb's own environment variables (WANDB_PROJECT, WANDB_ENTITY,
WANDB_MODE). A run that goes on is the same run there: its id is kept in `wandb_id` in the run
folder. Rows of steps that are taken again are equal to those it has, and it ignores them.
"""

import os
import uuid
from typing import ClassVar

from saetools.errors import ConfigError
from saetools.train.sink import SINKS, MetricSink, Row, SinkContext, replace_text

__all__ = ["WeightsAndBiases"]

_PROJECT = "saetools"


@SINKS.register("wandb")
class WeightsAndBiases(MetricSink):
    """Sends rows to a W&B run, or keeps them on disk with WANDB_MODE=offline."""

    package: ClassVar[str | None] = "wandb"

    def __init__(self, context: SinkContext) -> None:
        # An extra that starts a process: it is imported only where it was asked for.
        import wandb

        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                name=context.folder.resolve().name,
                id=_run_id(context),
                resume="allow",
                reinit="create_new",  # several SAEs of one process are several runs
                dir=str(context.folder),
                config=dict(context.settings),
                # Captured output would break the live display.
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise ConfigError(
                f"train.log_to asks for 'wandb', which could not start: {error}; run `wandb login`,"
                " set WANDB_MODE=offline to log without a network, or leave wandb out"
            ) from error

    def write(self, row: Row) -> None:
        """Log the figures that have a value, at the row's step."""
        figures = {name: value for name, value in row.items() if value is not None}
        self._run.log(figures, step=row["step"])

    def close(self) -> None:
        """Finish the run; waits for what is still to be sent."""
        self._run.finish()


def _run_id(context: SinkContext) -> str:
    """The id of this folder's W&B run; a run that starts over gets a new one."""
    path = context.folder / "wandb_id"
    if context.n_steps_done and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    found = uuid.uuid4().hex[:12]
    replace_text(path, found + "\n")
    return found
