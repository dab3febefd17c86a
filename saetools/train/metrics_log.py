"""metrics.jsonl: a row of figures every so many tokens, averaged over the steps since the last.

Figures are read off the device only when a row is due. Nothing here changes a number of training.
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch

from saetools.train.config import TrainConfig
from saetools.train.state import StepReport, TrainState

__all__ = ["MetricsLog", "read_metrics"]


class MetricsLog:
    """Averages step reports and appends rows to a file.

    Args:
        path: the file; None keeps nothing. Rows of steps that will be taken again are cut off.
        n_steps_done: steps that the run has taken already.
    """

    def __init__(self, path: Path | None, config: TrainConfig, n_steps_done: int) -> None:
        self._path = path
        self._config = config
        self._pending: list[StepReport] = []
        self._n_pending = 0
        self._since = time.monotonic()
        if path is not None:
            kept = [row for row in read_metrics(path) if row["step"] <= n_steps_done]
            text = "".join(_line(row) for row in kept)
            path.write_text(text, encoding="utf-8")

    def add(self, report: StepReport, state: TrainState, *, n_tokens: int) -> dict[str, Any] | None:
        """Take in a step; returns the row that was written, if one was due."""
        self._pending.append(report)
        self._n_pending += n_tokens
        last = state.n_steps_done == self._config.n_steps
        if self._n_pending < self._config.log_tokens and not last:
            return None
        row = self._row(state)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
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


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl, oldest first; none if there is no such file.

    A last line that was cut short by a kill is left out.
    """
    path = Path(path)
    rows: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def _line(row: dict[str, Any]) -> str:
    # NaN is no JSON; a diverged loss is written as null.
    clean = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
    }
    return json.dumps(clean) + "\n"
