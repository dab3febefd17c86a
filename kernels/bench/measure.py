"""Times, memory and ceilings: how a call is measured, on a CPU or on a GPU."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

__all__ = ["Call", "Ceilings", "Timing", "ceilings", "in_a_row", "peak_bytes", "timed"]

Call = Callable[[], Any]
_FLUSH_BYTES = 256 * 2**20  # more than any GPU's L2


class Timing(NamedTuple):
    """Milliseconds of one call: median, 20th and 80th percentile."""

    median: float
    p20: float
    p80: float


class Ceilings(NamedTuple):
    """What the machine reaches when it does nothing else: bytes/s of a copy, FLOP/s of a product.

    A copy counts what it reads and what it writes.
    """

    bytes_per_s: float
    flops_per_s: float


def timed(
    calls: Mapping[str, Call], *, device: torch.device, repeats: int, warmups: int = 3
) -> dict[str, Timing]:
    """Measure calls in turns, so that a busy moment hits all; a GPU's cache is cold each time."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    once = _once_on_gpu if device.type == "cuda" else _once_on_cpu
    for round_ in range(warmups + repeats):
        for name, call in calls.items():
            milliseconds = once(call)
            if round_ >= warmups:
                samples[name].append(milliseconds)
    return {name: _summary(times) for name, times in samples.items()}


def in_a_row(call: Call, *, device: torch.device, n_calls: int = 10) -> float | None:
    """Milliseconds a call among calls that follow each other, as in a training loop; GPU only.

    Where it is well under the time of a call alone, the difference is launches that the GPU waits
    for. The cache is warm. The median of three runs; None on a CPU, which has no queue.
    """
    if device.type != "cuda":
        return None
    runs = []
    for _ in range(3):
        torch.cuda.synchronize(device)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(n_calls):
            call()
        stop.record()
        torch.cuda.synchronize(device)
        runs.append(float(start.elapsed_time(stop)) / n_calls)
    return statistics.median(runs)


def peak_bytes(call: Call, *, device: torch.device) -> int | None:
    """Return the most memory that a call held beyond what was there; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def ceilings(device: torch.device) -> Ceilings:
    """Measure a large copy and a large matrix product (bfloat16 on a GPU, float32 on a CPU)."""
    on_gpu = device.type == "cuda"
    size, side = (2**30, 8192) if on_gpu else (2**27, 2048)
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if on_gpu else torch.float32)
    out = torch.empty_like(a)
    calls = {"copy": lambda: target.copy_(source), "product": lambda: torch.mm(a, a, out=out)}
    best = timed(calls, device=device, repeats=10)
    return Ceilings(2e3 * size / best["copy"].p20, 2e3 * side**3 / best["product"].p20)


def _summary(times: list[float]) -> Timing:
    if len(times) < 2:
        return Timing(times[0], times[0], times[0])
    fifths = statistics.quantiles(times, n=5, method="inclusive")
    return Timing(statistics.median(times), fifths[0], fifths[-1])


def _once_on_cpu(call: Call) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _once_on_gpu(call: Call) -> float:
    torch.empty(_FLUSH_BYTES // 4, device="cuda").zero_()
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop))
