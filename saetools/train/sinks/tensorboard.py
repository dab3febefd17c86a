"""TensorBoard: one scalar a figure, against steps, in the run's folder `tensorboard/`.

    pip install "saetools[tensorboard]"
    saetools train run.yaml "train.log_to=[tensorboard]"
    tensorboard --logdir runs/

When a run goes on, TensorBoard is told to forget the steps that will be taken again.
"""

from typing import ClassVar

from saetools.train.sink import SINKS, MetricSink, Row, SinkContext

__all__ = ["TensorBoard"]


@SINKS.register("tensorboard")
class TensorBoard(MetricSink):
    """Writes event files that TensorBoard reads."""

    package: ClassVar[str | None] = "tensorboard"

    def __init__(self, context: SinkContext) -> None:
        # An extra: it is imported only where it was asked for.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(
            log_dir=str(context.folder / "tensorboard"), purge_step=context.n_steps_done + 1
        )

    def write(self, row: Row) -> None:
        """Add a point to the curve of each figure that has a value."""
        for name, value in row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(f"train/{name}", value, row["step"])

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
