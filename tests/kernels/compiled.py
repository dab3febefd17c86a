"""Kernels compiled for a GPU that is not there, as their launchers would launch them.

    PYTHONPATH=.:kernels python tests/kernels/compiled.py

shows what each kernel needs of registers and shared memory.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bench.steps import State, our_step
from bench.workloads import GPU_SHAPES, NAMES, Shape, build
from saetools_kernels import raw
from tests.kernels.pretend_gpu import DEVICE, Launch, pretend_gpu

__all__ = ["Code", "compiled", "launches", "state_of"]

_STEPS = {"step_topk": False, "step_matryoshka": True}


class Code(NamedTuple):
    """What a kernel takes of a multiprocessor: bytes of stack are spilled registers."""

    registers: int
    stack: int
    shared: int
    n_warps: int


def compiled(launch: Launch, *, arch: int) -> Code | None:
    """Compile one launch; None where Triton carries no tool to read the machine code with."""
    place = {name: (i,) for i, name in enumerate(launch.function.arg_names)}
    source = ASTSource(
        fn=launch.function,
        signature={name: launch.signature[name] for name in launch.function.arg_names},
        constexprs={place[name]: value for name, value in launch.constants.items()},
        attrs={place[name]: [["tt.divisibility", 16]] for name in launch.divisible},
    )
    code = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=dict(launch.options))
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(code.asm["cubin"])
        usage = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    return Code(int(found[1]), int(found[2]), code.metadata.shared, launch.options["num_warps"])


@cache
def launches(dtype: torch.dtype) -> tuple[Launch, ...]:
    """Every different launch of the ops and steps of the benchmark at its shapes for a GPU."""
    found: dict[object, Launch] = {}
    for call in _calls(dtype):
        with pretend_gpu() as trace:
            try:
                call()
            except AssertionError:  # threshold_rows has to know the size of its result
                assert trace.waits
        found |= {launch.key: launch for launch in trace.launches}
    return tuple(found.values())


def _calls(dtype: torch.dtype) -> Iterator[Callable[[], object]]:
    for shape in GPU_SHAPES:
        for name in NAMES[1:]:
            if name in _STEPS:
                yield _step(shape, nested=_STEPS[name], dtype=dtype)
            else:
                yield lambda name=name, shape=shape: build(
                    name, shape, device=DEVICE, dtype=dtype
                ).ours()
    x = torch.empty(64, 131_072, device=DEVICE, dtype=dtype)
    for k in (1, 129, 257, 512):
        yield lambda k=k: raw.topk_rows(x, k)
    entries = torch.empty(4096, 2, device=DEVICE)
    yield lambda: raw.threshold_rows(x, torch.empty(131_072, device=DEVICE))
    yield lambda: _filled(x)
    for d in (768, 4096, 8192):
        yield lambda d=d: _adam(d, entries, dtype)


def _filled(x: torch.Tensor) -> None:
    """Launch what `threshold_rows` launches once it knows how much it found."""
    from saetools_kernels.threshold_rows import kernel

    n, n_columns = x.shape
    starts = torch.empty(n * (n_columns // 2048), dtype=torch.int64, device=DEVICE)
    out = (x[0], starts, starts)
    kernel.fill_above_fwd_kernel[(n, n_columns // 2048)](
        *(x, x[0], starts, *out, x.stride(0), n_columns), BLOCK=2048, **kernel.COMPILE_OPTIONS
    )


def _adam(d: int, entries: torch.Tensor, dtype: torch.dtype) -> None:
    """Take a step with everything on: two sums, some rows, a shadow, moments of 16 bits."""
    n_latents = 1024
    order = raw.order_by_latent(entries.flatten().long() % n_latents, n_latents)
    source = torch.empty(4096, d, device=DEVICE, dtype=dtype)
    sums = raw.row_sums(entries.flatten(), entries.flatten().long(), order, source)
    some = raw.SomeRows(entries[:9, 0].long(), source[:9])
    W = torch.empty(n_latents, d, device=DEVICE)
    moment = torch.empty_like(W, dtype=torch.bfloat16)
    settings = raw.AdamSettings(1e-3, 3, unit_rows=True)
    raw.fused_sparse_adam(
        *(W, moment, moment, raw.RowGradient((sums, sums), (some,)), settings),
        shadow=torch.empty_like(W, dtype=torch.bfloat16),
    )


def _step(shape: Shape, *, nested: bool, dtype: torch.dtype) -> Callable[[], object]:
    widths = shape.widths if nested else (shape.n_latents,)
    edges = torch.empty(len(widths) - 1, dtype=torch.int64, device=DEVICE)
    x = torch.empty(shape.n, shape.d, device=DEVICE)
    state = state_of(shape, dtype)
    return lambda: our_step(state, x, k=shape.k, widths=widths, edges=edges)


def state_of(shape: Shape, dtype: torch.dtype) -> State:
    """Weights without numbers."""
    matrix = torch.empty(shape.n_latents, shape.d, device=DEVICE)
    weights = {"W_enc": matrix, "b_enc": matrix[:, 0].clone()}
    weights |= {"W_dec": torch.empty_like(matrix), "b_dec": matrix[0].clone()}
    moments = ({name: torch.empty_like(w) for name, w in weights.items()} for _ in range(2))
    matrices = ("W_enc", "W_dec") if dtype != torch.float32 else ()
    shadows = {name: torch.empty_like(weights[name], dtype=dtype) for name in matrices}
    return State(weights, *moments, shadows)


if __name__ == "__main__":
    lines = ["kernel, constants, sm_90 with bfloat16: registers, stack, shared memory, warps"]
    for one in launches(torch.bfloat16):
        sizes = {n: v for n, v in one.constants.items() if n in ("BLOCK", "D", "N_LEVELS")}
        lines.append(f"{one.kernel} {sizes} {tuple(compiled(one, arch=90) or ('unknown',))}")
    sys.stdout.write("\n".join(lines) + "\n")
