"""The most memory that a piece of work needs, above what its process held when it began.

Linux keeps the peak of a process and lets it be set back. What was freed before may be used again
unseen, so each figure is best taken in a process of its own.
"""

from collections.abc import Callable
from pathlib import Path

__all__ = ["peak_bytes"]

_RESET_PEAK = "5"  # what /proc/PID/clear_refs wants to see (man 5 proc)


def peak_bytes(work: Callable[[], object]) -> int | None:
    """Run `work`; None where the system does not tell."""
    switch = Path("/proc/self/clear_refs")
    if not switch.exists():
        work()
        return None
    switch.write_text(_RESET_PEAK)
    before = _status("VmRSS")
    work()
    return max(_status("VmHWM") - before, 0)


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
