"""What a sink of training figures is, and how those of a run are opened.

`jsonl` and `csv` are always written where a run has a folder; `train.log_to` adds others. A sink is
one file in `saetools/train/sinks/`. It is given finished rows of plain numbers, never a tensor, so
it has no way to change training.
"""

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from saetools.errors import ConfigError
from saetools.registry import Registry

__all__ = [
    "ALWAYS",
    "SINKS",
    "MetricSink",
    "Row",
    "SinkContext",
    "check_sinks",
    "open_sinks",
    "replace_text",
]

Row = Mapping[str, Any]
"""One row of figures: numbers by name; a figure that is not finite is None."""

ALWAYS = ("jsonl", "csv")
"""Sinks of every run that has a folder."""


class SinkContext(NamedTuple):
    """What a sink is opened with.

    folder is the run's; rows are those of steps that the run has taken already and keeps;
    n_steps_done is the number of these steps; settings is what the run was started with.
    """

    folder: Path
    rows: Sequence[Row]
    n_steps_done: int
    settings: Mapping[str, Any]


class MetricSink(ABC):
    """Somewhere that rows of training figures go.

    Attributes:
        package: the package that it needs, which is also the name of the extra; None: nothing.
    """

    package: ClassVar[str | None] = None

    @abstractmethod
    def __init__(self, context: SinkContext) -> None:
        """Open it; what an earlier part of the run wrote beyond `context.rows` is taken back."""

    @abstractmethod
    def write(self, row: Row) -> None:
        """Take in a row."""

    @abstractmethod
    def close(self) -> None:
        """Finish; called once, also after an error."""


SINKS: Registry[type[MetricSink]] = Registry(
    "sink of training figures", package="saetools.train.sinks", group="saetools.sinks"
)
"""All sinks by name."""


def check_sinks(log_to: Sequence[str], folder: Path | None) -> None:
    """Refuse, before any work, sinks that cannot be opened here.

    Raises:
        UnknownNameError: no sink has that name.
        ConfigError: its package is not installed, or the run has no folder to log from.
    """
    for name in log_to:
        package = SINKS.get(name).package
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"train.log_to asks for '{name}', but the package {package} is not installed; "
                f'pip install "saetools[{package}]", or leave {name} out of train.log_to '
                "(metrics.jsonl and metrics.csv are always written)"
            )
        if folder is None:
            raise ConfigError(
                f"train.log_to asks for '{name}', but this run has no folder; "
                "pass train(..., out=FOLDER), or leave log_to empty"
            )


def open_sinks(context: SinkContext, log_to: Sequence[str] = ()) -> list[MetricSink]:
    """Open the sinks of a run: those of every run, then those of `log_to`."""
    opened: list[MetricSink] = []
    with ExitStack() as undo:
        for name in dict.fromkeys((*ALWAYS, *log_to)):
            opened.append(SINKS.get(name)(context))
            undo.callback(opened[-1].close)
        undo.pop_all()
    return opened


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the whole new one."""
    scratch = path.with_name(path.name + ".partial")
    scratch.write_text(text, encoding="utf-8", newline="")
    os.replace(scratch, path)
