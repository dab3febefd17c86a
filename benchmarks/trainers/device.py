"""The device that a step runs on: how a call is timed there, and how memory is read and given back.

All that the training benchmarks do differently on a CPU and on a GPU is here.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

__all__ = ["Cpu", "Cuda", "Device", "device_named"]

Call = Callable[[], object]
_STATUS = Path("/proc/self/status")


class Device(Protocol):
    """What a worker asks of the device."""

    torch_device: torch.device
    product_dtype: torch.dtype  # of the encoder product that is the unit of time

    def seconds(self, call: Call, *, clock: str = "wall") -> float:
        """Run a call to its end and return how long it took."""

    def used_bytes(self) -> int | None:
        """Memory that is held now; None where the system does not tell."""

    def peak_bytes(self) -> int | None:
        """The most that was held since the peak was forgotten; None where it is not told."""

    def forget_peak(self) -> None:
        """Let the peak start again from what is held now."""

    def give_back(self) -> None:
        """Return memory that nothing uses any more."""


class Cpu:
    """Memory of the process; time of the wall clock or of the processor."""

    torch_device = torch.device("cpu")
    product_dtype = torch.float32

    def seconds(self, call: Call, *, clock: str = "wall") -> float:
        """Run a call and return its seconds by the clock "wall" or "cpu"."""
        now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
        begun = now()
        call()
        return now() - begun

    def used_bytes(self) -> int | None:
        """Resident memory of the process."""
        return _memory("VmRSS")

    def peak_bytes(self) -> int | None:
        """The most resident memory since the peak was forgotten."""
        return _memory("VmHWM")

    def forget_peak(self) -> None:
        """Let VmHWM start again from the memory that is held now."""
        if _STATUS.exists():
            Path("/proc/self/clear_refs").write_text("5")

    def give_back(self) -> None:
        """Collect, and return freed pages to the system."""
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)


class Cuda:
    """Memory that torch's allocator holds on the GPU; time between two events there."""

    torch_device = torch.device("cuda")
    product_dtype = torch.bfloat16

    def seconds(self, call: Call, *, clock: str = "wall") -> float:
        """Run a call on an idle GPU, wait for its end, and return the seconds between.

        Raises:
            ValueError: for the clock "cpu", which says nothing of a GPU.
        """
        if clock != "wall":
            raise ValueError(f"the clock {clock!r} does not time a GPU: ask for --clock wall")
        torch.cuda.synchronize()
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        stop.record()
        torch.cuda.synchronize()
        return 1e-3 * float(start.elapsed_time(stop))

    def used_bytes(self) -> int | None:
        """Memory of tensors."""
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    def peak_bytes(self) -> int | None:
        """The most memory of tensors since the peak was forgotten."""
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    def forget_peak(self) -> None:
        """Let the peak start again from what is allocated now."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()

    def give_back(self) -> None:
        """Collect, and return what the allocator keeps in reserve."""
        gc.collect()
        torch.cuda.empty_cache()


def device_named(name: str) -> Device:
    """Return "cpu" or "cuda".

    Raises:
        ValueError: for another name.
        RuntimeError: for "cuda" where torch sees no GPU.
    """
    if name == "cpu":
        return Cpu()
    if name != "cuda":
        raise ValueError(f"no device named {name!r}; known: cpu, cuda")
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} sees no CUDA device here")
    return Cuda()


def _memory(field: str) -> int | None:
    """A figure of /proc/self/status in bytes; None where there is no such file."""
    if not _STATUS.exists():
        return None
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024
