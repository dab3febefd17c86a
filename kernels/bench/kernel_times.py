"""Where a call spends its time, kernel by kernel: what tuning looks at first."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.measure import Call

__all__ = ["KernelTime", "by_kernel", "rows"]


class KernelTime(NamedTuple):
    """One kernel (an operator of torch, on a CPU): calls and milliseconds a step."""

    name: str
    count: float
    milliseconds: float


def by_kernel(call: Call, *, device: torch.device, n_calls: int = 5) -> list[KernelTime]:
    """Run a call under torch.profiler and return its kernels, the longest first.

    On a GPU the time is the kernel's own there; on a CPU it is the operator's own, without the
    operators that it calls.
    """
    on_gpu = device.type == "cuda"
    for _ in range(3):
        call()
    activities = [ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiled:
        for _ in range(n_calls):
            call()
        if on_gpu:
            torch.cuda.synchronize(device)
    found = []
    for event in profiled.key_averages():
        if (event.device_type == DeviceType.CUDA) == on_gpu:
            microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            found.append(
                KernelTime(event.key, event.count / n_calls, 1e-3 * microseconds / n_calls)
            )
    return sorted(found, key=lambda one: -one.milliseconds)


def rows(
    times: Iterable[KernelTime], stamp: dict[str, str], op: str, shape: dict[str, int]
) -> list[dict[str, object]]:
    """Return the kernels as stamped rows; `share` is of all kernels' time."""
    times = list(times)
    total = sum(one.milliseconds for one in times) or 1.0
    return [
        {
            **stamp,
            "op": op,
            **shape,
            "ms": f"{one.milliseconds:.4f}",
            "share": f"{one.milliseconds / total:.3f}",
            "count": f"{one.count:g}",
            "kernel": one.name,
        }
        for one in times
        if one.milliseconds > 0
    ]
