"""The rich sink: one live display with a bar and, in a terminal, a table of figures below it.

In Jupyter the display is drawn by whoever advances it, not by rich's own thread: while that thread
draws, what the notebook prints lands in the bar, and nbclient loses count of the outputs.
"""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from saetools.progress.figures import Figures, merged, spell, spell_figure, spell_rows

__all__ = ["Live"]

_DRAW_SECONDS = 0.2  # in Jupyter


class Live:
    """A task as a bar; rows of figures as a table below it, or beside it outside a terminal."""

    def __init__(
        self, label: str, total: float | None, unit: str, *, console: Console | None = None
    ) -> None:
        console = console or Console(stderr=True)
        self._rows: dict[str, Figures] = {}
        self._notes: Figures = {}
        self._in_terminal = console.is_terminal and not console.is_jupyter
        self._in_jupyter, self._drawn = console.is_jupyter, 0.0
        self._progress = _BarAndTable(self._rows, *_columns(unit), console=console)
        self._progress.shows_table = self._in_terminal
        self._id = self._progress.add_task(
            label, total=None if total is None else int(total), figures=""
        )

    def __enter__(self) -> "Live":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._draw(at_once=True)
        self._progress.stop()

    def advance(self, n: float = 1) -> None:
        """Move the bar."""
        self._progress.advance(self._id, int(n))
        self._draw()

    def note(self, **figures: float | str) -> None:
        """Show figures beside the bar."""
        self._notes = merged(self._notes, figures)
        self._show_beside()

    def row(self, name: str, figures: Mapping[str, float | str]) -> None:
        """Show figures in the row called `name`."""
        self._rows[name] = merged(self._rows.get(name), figures)
        self._show_beside()

    def _show_beside(self) -> None:
        parts = [spell(self._notes)]
        if not self._in_terminal:
            parts.append(spell_rows(self._rows))
        self._progress.update(self._id, figures="  ".join(filter(None, parts)))
        self._draw()

    def _draw(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._in_jupyter and (at_once or now - self._drawn > _DRAW_SECONDS):
            self._progress.refresh()
            self._drawn = now


class _BarAndTable(Progress):
    """rich's display with a second renderable: both are drawn in one refresh, so none flickers."""

    def __init__(
        self, rows: Mapping[str, Figures], *columns: ProgressColumn, console: Console
    ) -> None:
        self._rows = rows
        self.shows_table = False
        super().__init__(*columns, console=console, auto_refresh=not console.is_jupyter)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the table once there is a row."""
        yield from super().get_renderables()
        if self._rows and self.shows_table:
            yield _table(dict(self._rows))  # a copy: rich draws from a thread of its own


def _columns(unit: str) -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("[bold]{task.description:<12}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", style="cyan", markup=False),
    )


def _table(rows: Mapping[str, Figures]) -> Table:
    columns = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    named = any(rows)
    if named:
        table.add_column("", style="bold", no_wrap=True, overflow="ellipsis")
    for name in columns:
        table.add_column(Text(name), justify="right", no_wrap=True, min_width=9)
    for name, figures in rows.items():
        cells = [Text(spell_figure(figures[c])) if c in figures else Text("-") for c in columns]
        table.add_row(*([Text(name)] if named else []), *cells)
    return table
