"""A row of training figures every so many tokens, averaged over the steps since the last one.

Rows stand at fixed steps, so a run that goes on has rows at the same steps as one that was not
stopped; the first one after a stop averages the steps since then.

Figures are read off the device only when a row is due. Nothing here changes a number of training.
Where rows go is the business of `saetools.train.sink`.
"""

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from saetools.train.config import TrainConfig
from saetools.train.sink import MetricSink, SinkContext, open_sinks
from saetools.train.sinks.jsonl import FILE_NAME, read_metrics
from saetools.train.state import StepReport, TrainState

__all__ = ["MetricsLog", "live_figures"]


class MetricsLog:
    """Averages step reports and gives rows to the sinks of a run, which are open inside its block.

    Args:
        folder: the run's folder; None keeps nothing. Rows of steps that will be taken again are
            cut off.
        n_steps_done: steps that the run has taken already.
        settings: what the run was started with, for sinks that show it.
    """

    def __init__(
        self,
        folder: Path | None,
        config: TrainConfig,
        n_steps_done: int,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder, self._config, self._n_steps_done = folder, config, n_steps_done
        self._settings = settings or {}
        self._every = -(-config.log_tokens // config.batch_tokens)
        self._pending: list[StepReport] = []
        self._n_pending = 0
        self._since = time.monotonic()
        self._sinks: list[MetricSink] = []

    def __enter__(self) -> "MetricsLog":
        if self._folder is not None:
            rows = read_metrics(self._folder / FILE_NAME)
            kept = [row for row in rows if row["step"] <= self._n_steps_done]
            context = SinkContext(self._folder, kept, self._n_steps_done, self._settings)
            self._sinks = open_sinks(context, self._config.log_to)
        self._since = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as stack:  # one that fails to close does not keep others open
            for sink in self._sinks:
                stack.callback(sink.close)
        self._sinks = []

    def add(self, report: StepReport, state: TrainState, *, n_tokens: int) -> dict[str, Any] | None:
        """Take in a step; returns the row that was written, if one was due."""
        self._pending.append(report)
        self._n_pending += n_tokens
        # By the step, not since the last row: a run that goes on gives rows at the same steps.
        last = state.n_steps_done == self._config.n_steps
        if state.n_steps_done % self._every != 0 and not last:
            return None
        row = self._row(state)
        # NaN is no JSON; a diverged loss is written as None.
        clean = {k: None if not math.isfinite(v) else v for k, v in row.items()}
        for sink in self._sinks:
            sink.write(clean)
        self._pending, self._n_pending, self._since = [], 0, time.monotonic()
        return row

    def _row(self, state: TrainState) -> dict[str, Any]:
        seconds = max(time.monotonic() - self._since, 1e-9)
        return {
            "step": state.n_steps_done,
            "n_tokens": state.n_steps_done * self._config.batch_tokens,
            "loss": float(torch.stack([r.loss for r in self._pending]).mean()),
            "fvu": float(torch.stack([r.fvu for r in self._pending]).mean()),
            "l0": float(torch.stack([r.l0 for r in self._pending]).mean()),
            "dead_fraction": state.dead_fraction(self._config),
            "lr": self._pending[-1].lr,
            "tokens_per_second": round(self._n_pending / seconds, 1),
        }


def live_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a row that are worth watching, under the headings of the live display."""
    return {
        "fvu": row["fvu"],
        "l0": row["l0"],
        "dead": row["dead_fraction"],
        "lr": row["lr"],
        "tokens/s": row["tokens_per_second"],
    }
