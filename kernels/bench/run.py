"""Time every op against the encoder product of the same shape, interleaved, on this machine.

    PYTHONPATH=kernels python kernels/bench/run.py [--threads 2] [--repeats 15] [--op sparse_decode]

A ratio of 1 means that the op takes as long as `x @ W_enc.T`; lower is better. Calls take turns,
so a busy moment hits all of them; the medians and their ratio to the product's median are printed,
with the 20th and 80th percentiles in milliseconds. Only the ratio travels between machines.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from saetools_kernels import raw
from saetools_kernels.spec import Case, OpSpec, all_specs

SHAPES = (
    Case("S", n=4096, d=384, n_latents=3072, k=24),
    Case("M", n=4096, d=512, n_latents=8192, k=32),
    Case("L", n=2048, d=768, n_latents=24576, k=32),
)

Call = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--op", default=None, choices=sorted(all_specs()))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    specs = [spec for name, spec in all_specs().items() if chosen.op in (None, name)]
    print(f"torch {torch.__version__}, {chosen.threads} threads, {chosen.repeats} repeats, float32")
    for case in SHAPES:
        calls = product(case)
        for spec in specs:
            calls |= versions(spec, case)
        report(case, measured(calls, repeats=chosen.repeats))


def product(case: Case) -> dict[str, Call]:
    """The unit: the encoder product into a buffer that exists."""
    x, W = torch.randn(case.n, case.d), torch.randn(case.n_latents, case.d)
    out = torch.empty(case.n, case.n_latents)
    return {"product": lambda: torch.mm(x, W.T, out=out)}


def versions(spec: OpSpec, case: Case) -> dict[str, Call]:
    """The op's fast path, the same into a buffer where it takes one, and the reference."""
    drawn = spec.make_inputs(case, torch.Generator().manual_seed(0))
    arguments = {
        name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in drawn.items()
    }
    plain = getattr(raw, spec.name)
    calls: dict[str, Call] = {spec.name: lambda: plain(**arguments)}
    if spec.name in ("sparse_decode", "bag_decode", "row_scatter_add"):
        buffer = torch.empty_like(plain(**arguments))
        calls[f"{spec.name} out="] = lambda: plain(**arguments, out=buffer)
    calls[f"{spec.name} reference"] = lambda: spec.reference(**arguments)
    return calls


def measured(calls: dict[str, Call], *, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, taken in turns after two unmeasured rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_ >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(case: Case, seconds: dict[str, list[float]]) -> None:
    print(f"\n{case.name}: n {case.n}, d {case.d}, n_latents {case.n_latents}, k {case.k}")
    unit = statistics.median(seconds["product"])
    for name, times in seconds.items():
        median = statistics.median(times)
        fifths = statistics.quantiles(times, n=5)
        print(
            f"  {name:28s} {median / unit:7.3f}   "
            f"{median * 1e3:8.2f} ms [{fifths[0] * 1e3:.2f}, {fifths[-1] * 1e3:.2f}]"
        )


if __name__ == "__main__":
    main()
