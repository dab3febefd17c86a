"""Progress of long work: one protocol, four sinks (rich, plain lines, JSON lines, silent).

The library opens a task and advances it; the sink decides what is seen. The default sink is a live
rich display where standard error is a terminal (or a notebook) and silence elsewhere. The command
line chooses another with `use()`.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol, TextIO, runtime_checkable

from saetools.progress.figures import Figures, merged, spell, spell_rows

__all__ = ["SinkName", "Task", "task", "use"]

SinkName = Literal["auto", "rich", "plain", "jsonl", "silent"]

_sink: ContextVar[SinkName] = ContextVar("saetools_progress_sink", default="auto")


@runtime_checkable
class Task(Protocol):
    """A piece of long work in progress."""

    def advance(self, n: float = 1) -> None:
        """Say that `n` more units are done."""

    def note(self, **figures: float | str) -> None:
        """Show figures beside the bar, e.g. `note(fvu=0.21)`."""

    def row(self, name: str, figures: Mapping[str, float | str]) -> None:
        """Show figures of one of several things that advance together, e.g. SAEs of a sweep.

        A terminal has a live table with a row for each name; elsewhere they stand in the line. A
        thing that is alone has the name "".
        """


@contextmanager
def use(sink: SinkName) -> Iterator[None]:
    """Send the progress of everything inside the block to `sink`."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)


@contextmanager
def task(label: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
    """Open a task of `total` units (None if unknown) and close it when the block ends."""
    sink = _sink.get()
    if sink == "auto":
        sink = "rich" if sys.stderr.isatty() or "ipykernel" in sys.modules else "silent"
    if sink == "silent":
        yield _Silent()
    elif sink == "rich":
        # rich costs 40 ms to import and is needed only where somebody looks.
        from saetools.progress.live import Live

        with Live(label, total, unit) as live:
            yield live
    else:
        lines = _Lines(label, total, unit, as_json=sink == "jsonl", stream=sys.stderr)
        yield lines
        lines.close()


class _Silent:
    def advance(self, n: float = 1) -> None:
        pass

    def note(self, **figures: float | str) -> None:
        pass

    def row(self, name: str, figures: Mapping[str, float | str]) -> None:
        pass


class _Lines:
    """A line about every tenth of the work or ten seconds, and at the end."""

    def __init__(
        self, label: str, total: float | None, unit: str, *, as_json: bool, stream: TextIO
    ) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._as_json, self._stream = as_json, stream
        self._done: float = 0
        self._figures: Figures = {}
        self._rows: dict[str, Figures] = {}
        self._started = self._last_time = time.monotonic()
        self._last_done: float = 0
        self._emit("start")

    def advance(self, n: float = 1) -> None:
        self._done += n
        if self._total is not None and self._done >= self._total:
            return  # the last line, with the last figures, is for `close`
        now = time.monotonic()
        far = self._total is not None and self._done - self._last_done >= self._total / 10
        if (far and (self._as_json or now - self._started > 2)) or now - self._last_time > 10:
            self._emit("progress")

    def note(self, **figures: float | str) -> None:
        self._figures = merged(self._figures, figures)

    def row(self, name: str, figures: Mapping[str, float | str]) -> None:
        self._rows[name] = merged(self._rows.get(name), figures)

    def close(self) -> None:
        self._emit("end")

    def _emit(self, event: str) -> None:
        self._last_time, self._last_done = time.monotonic(), self._done
        seconds = self._last_time - self._started
        if self._as_json:
            row: dict[str, Any] = {
                "task": self._label,
                "event": event,
                "done": self._done,
                "total": self._total,
                "unit": self._unit,
                "seconds": round(seconds, 2),
                **self._figures,
                **self._rows.get("", {}),
            }
            if named := {name: figures for name, figures in self._rows.items() if name}:
                row["rows"] = named
            self._stream.write(json.dumps(row) + "\n")
        elif event != "start":
            of = "" if self._total is None else f"/{self._total:,.0f}"
            self._stream.write(
                f"  {self._label:<12} {self._done:,.0f}{of} {self._unit}"
                f"  {seconds:.0f} s  {self._spelled()}\n"
            )
        self._stream.flush()

    def _spelled(self) -> str:
        return "  ".join(filter(None, (spell(self._figures), spell_rows(self._rows))))
