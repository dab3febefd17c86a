"""One piece of a run of the benchmark: a workload at a shape by some providers, made into rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from bench.measure import Call, Ceilings, Timing, in_a_row, peak_bytes, timed
from bench.workloads import Shape, Workload, build

__all__ = ["PROVIDERS", "Bench", "Job", "Row", "plan"]

PROVIDERS = ("eager", "ours", "compile")
Row = dict[str, object]


class Job(NamedTuple):
    """What is measured in turns, so that a busy moment hits all of it."""

    name: str
    shape: Shape
    providers: tuple[str, ...]

    def __str__(self) -> str:
        sizes = ",".join(str(size) for size in vars(self.shape).values())
        return f"{self.name} at {sizes} ({', '.join(self.providers)})"


class Measured(NamedTuple):
    """Figures of one provider; the last two on a GPU only."""

    timing: Timing
    n_bytes: int | None
    row_ms: float | None


def plan(
    names: Sequence[str], shapes: Sequence[Shape], providers: Sequence[str]
) -> tuple[Job, ...]:
    """Put what matters most first, since a run may be cut short.

    Whole steps come before ops, small shapes before large ones, and all that torch.compile has to
    compile, which may take minutes, after everything else.
    """
    steps = [name for name in names if name.startswith("step")]
    ops = [name for name in names if name not in steps]
    by_size = sorted(shapes, key=lambda s: s.n * s.d * s.n_latents)
    quick = tuple(name for name in providers if name != "compile")
    groups = [quick, ("compile",)] if "compile" in providers else [quick]
    return tuple(
        Job(name, shape, group)
        for group in groups
        for part in (steps, ops)
        for shape in by_size
        for name in part
        if group
    )


@dataclass
class Bench:
    """The device and what every row needs of it.

    Args:
        device: where everything is measured.
        dtype: of the inputs of the ops.
        stamp: device, date, commit, versions.
        limits: ceilings of the device, measured in this run.
        repeats: of each call.
        products: milliseconds of the encoder product by shape, measured when first asked for.
    """

    device: torch.device
    dtype: torch.dtype
    stamp: dict[str, str]
    limits: Ceilings
    repeats: int
    products: dict[Shape, float] = field(default_factory=dict)

    def rows(self, job: Job) -> list[Row]:
        """Measure a job, once ours and eager agree on its inputs.

        Raises:
            AssertionError: when they do not; nothing is timed then.
        """
        unit = self.product_ms(job.shape)
        work = build(job.name, job.shape, device=self.device, dtype=self.dtype)
        work.agrees()
        found = self._measured(work, job.providers)
        return [self._row(work, job.shape, name, one, unit) for name, one in found.items()]

    def product_ms(self, shape: Shape) -> float:
        """Return the median time of the encoder product alone, the unit of `of_product`."""
        if shape not in self.products:
            work = build("encoder_product", shape, device=self.device, dtype=self.dtype)
            found = timed({"product": work.ours}, device=self.device, repeats=self.repeats)
            self.products[shape] = found["product"].median
        return self.products[shape]

    def _measured(self, work: Workload, providers: Sequence[str]) -> dict[str, Measured]:
        calls = {name: _call(work, name) for name in providers}
        for call in calls.values():
            call()
        memory = {name: peak_bytes(call, device=self.device) for name, call in calls.items()}
        times = timed(calls, device=self.device, repeats=self.repeats)
        return {
            name: Measured(times[name], memory[name], in_a_row(call, device=self.device))
            for name, call in calls.items()
        }

    def _row(
        self, work: Workload, shape: Shape, provider: str, found: Measured, unit: float
    ) -> Row:
        per_s, timing = 1e3 / found.timing.median, found.timing
        rates = {"bytes": work.n_bytes * per_s, "flops": work.n_flops * per_s}
        limits = self.limits
        return {
            **self.stamp,
            "op": work.name,
            "provider": provider,
            **vars(shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "median_ms": f"{timing.median:.4f}",
            "p20_ms": f"{timing.p20:.4f}",
            "p80_ms": f"{timing.p80:.4f}",
            "in_a_row_ms": "" if found.row_ms is None else f"{found.row_ms:.4f}",
            "of_product": f"{timing.median / unit:.3f}",
            "peak_mib": "" if found.n_bytes is None else f"{found.n_bytes / 2**20:.1f}",
            "bytes_per_s": f"{rates['bytes']:.3g}" if work.n_bytes else "",
            "of_copy": f"{rates['bytes'] / limits.bytes_per_s:.3f}" if work.n_bytes else "",
            "flops_per_s": f"{rates['flops']:.3g}" if work.n_flops else "",
            "of_matmul": f"{rates['flops'] / limits.flops_per_s:.3f}" if work.n_flops else "",
        }


def _call(work: Workload, provider: str) -> Call:
    if provider == "ours":
        return work.ours
    if provider == "eager":
        return lambda: work.eager(*work.arguments)
    if work.compiled is not None:
        return work.compiled
    compiled = torch.compile(work.eager, dynamic=False)
    return lambda: compiled(*work.arguments)
