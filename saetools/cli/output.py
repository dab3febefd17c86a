"""What a command tells its user at the end: figures, where they were written, what comes next."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saetools import progress

__all__ = ["Outcome", "View"]

_PIPE_WIDTH = 160


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Args:
        title: one line, e.g. "harvested 200,000 tokens".
        figures: numbers and words worth showing, in order.
        table: rows of a table below the figures, all with the same keys.
        text: free text below both.
        wrote: files and folders that were written.
        next: the command that comes next.
    """

    title: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()
    text: str = ""
    wrote: tuple[Path, ...] = ()
    next: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "title": self.title,
            "figures": dict(self.figures),
            "table": [dict(row) for row in self.table],
            "text": self.text,
            "wrote": [str(path) for path in self.wrote],
            "next": self.next,
        }


@dataclass(frozen=True)
class View:
    """How a command speaks: to a person, as JSON, or not at all."""

    as_json: bool = False
    quiet: bool = False

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Send the progress of the block where this view wants it."""
        sink: progress.SinkName = "rich" if sys.stderr.isatty() else "plain"
        sink = "jsonl" if self.as_json else sink
        with progress.use("silent" if self.quiet else sink):
            yield

    def show(self, outcome: Outcome) -> None:
        """Print an outcome on standard output."""
        if self.as_json:
            sys.stdout.write(json.dumps(_plain(outcome.as_json()), default=str) + "\n")
        elif not self.quiet:
            _print(outcome)


def _print(outcome: Outcome) -> None:
    # rich costs 40 ms to import and is needed only where there is something to show.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(outcome.title, style="bold"))
    pad = max((len(name) for name in outcome.figures), default=0)
    for name, value in outcome.figures.items():
        console.print(Text(f"  {name:<{pad}}  {_spell(value)}"))
    if outcome.table:
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2))
        for column in outcome.table[0]:
            table.add_column(column, overflow="fold")
        for row in outcome.table:
            table.add_row(*(Text(" ".join(_spell(value).split())) for value in row.values()))
        # A pipe has no width to fit into.
        (console if console.is_terminal else Console(width=_PIPE_WIDTH)).print(table)
    if outcome.text:
        console.print(Text(outcome.text))
    for path in outcome.wrote:
        console.print(Text.assemble(("wrote ", "dim"), str(path)))
    if outcome.next:
        console.print(Text.assemble(("next  ", "dim"), (outcome.next, "cyan")))


def _spell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)


def _plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
