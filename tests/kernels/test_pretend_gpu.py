"""What a GPU would be asked to do, seen on tensors without numbers, at the benchmark's shapes.

Every promise here is counted, none is timed: no wait of the host for the device, memory, launches
that the driver accepts.
"""

import os

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (Linux has it)")

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton runs as an interpreter in this process", allow_module_level=True)

from bench.steps import our_step
from bench.workloads import GPU_SHAPES, NAMES, Shape, build
from tests.kernels.compiled import launches, state_of
from tests.kernels.pretend_gpu import DEVICE, Trace, pretend_gpu

OPS = [name for name in NAMES[1:] if not name.startswith("step")]
SHAPES = [pytest.param(shape, id=f"d{shape.d}") for shape in GPU_SHAPES]


def step(shape: Shape, widths: tuple[int, ...]) -> Trace:
    state = state_of(shape, torch.bfloat16)
    x = torch.empty(shape.n, shape.d, device=DEVICE)
    edges = torch.empty(len(widths) - 1, dtype=torch.int64, device=DEVICE)
    with pretend_gpu() as trace:
        our_step(state, x, k=shape.k, widths=widths, edges=edges)
    return trace


@pytest.mark.parametrize("nested", [False, True], ids=["topk", "matryoshka"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_waits_for_nothing_and_holds_less_than_15_percent_of_dense(
    shape: Shape, nested: bool
) -> None:
    trace = step(shape, shape.widths if nested else (shape.n_latents,))
    assert trace.waits == []
    assert trace.peak_bytes < 0.15 * 4 * shape.n * shape.n_latents


@pytest.mark.parametrize("shape", SHAPES)
def test_further_matryoshka_widths_need_three_more_launches(shape: Shape) -> None:
    assert step(shape, shape.widths).n_launches <= step(shape, (shape.n_latents,)).n_launches + 3


@pytest.mark.parametrize("name", OPS)
def test_an_op_waits_for_the_device_only_to_learn_the_size_of_its_result(name: str) -> None:
    work = build(name, GPU_SHAPES[0], device=DEVICE, dtype=torch.bfloat16)
    with pretend_gpu() as trace:
        if name == "threshold_rows":
            with pytest.raises(AssertionError, match="waits for the device"):
                work.ours()
        else:
            work.ours()
    assert len(trace.waits) == (name == "threshold_rows")
    assert trace.launches


def test_no_grid_is_larger_than_cuda_takes() -> None:
    for launch in launches(torch.bfloat16):
        first, *others = launch.grid
        assert first < 2**31
        assert all(size < 2**16 for size in others), launch


def test_a_wait_is_seen() -> None:
    x = torch.ones(3, device=DEVICE)
    for call in (lambda: float(x.sum()), x.nonzero, lambda: x[x > 0], lambda: bool(x[0] == 0)):
        with pytest.raises(AssertionError, match="waits for the device"), pretend_gpu() as trace:
            call()
        assert trace.waits
    with pretend_gpu() as trace:
        torch.tensor([1.0, 2.0], device=DEVICE)
        torch.ones(3).to(DEVICE)
    assert len(trace.waits) == 2


def test_memory_is_counted_until_it_is_given_back() -> None:
    x = torch.ones(1000, device=DEVICE)
    with pretend_gpu() as trace:
        y = x + 1
        del y
        z = x.view(10, 100) * 2
        assert trace.held_bytes == 4000
        w = z + 1
        assert trace.peak_bytes == 8000
        del z, w
        assert trace.held_bytes == 0
