"""Kernels compile for real GPUs on a machine that has none, and keep everything in registers."""

import importlib
import os
import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed (Linux has it)")

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton runs as an interpreter in this process", allow_module_level=True)

# Pointer arguments by kernel; "float" stands for the dtype under test.
KERNELS = {
    "sparse_decode.bag_decode_fwd_kernel": {
        "values_ptr": "float",
        "indices_ptr": "i64",
        "offsets_ptr": "i64",
        "W_ptr": "float",
        "out_ptr": "float",
    },
    "row_scatter_add.row_scatter_add_fwd_kernel": {
        "values_ptr": "float",
        "rows_ptr": "i64",
        "permutation_ptr": "i64",
        "offsets_ptr": "i64",
        "x_ptr": "float",
        "out_ptr": "float",
    },
    "gathered_dots.gathered_dots_fwd_kernel": {
        "g_ptr": "float",
        "W_ptr": "float",
        "rows_ptr": "i64",
        "latents_ptr": "i64",
        "out_ptr": "float",
    },
}


def compiled(path: str, *, dtype: str, arch: int, d: int) -> bytes:
    """Return the machine code of a kernel for one GPU generation."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from saetools_kernels._launch import COMPILE_OPTIONS, column_block

    op, _, name = path.partition(".")
    kernel = getattr(importlib.import_module(f"saetools_kernels.{op}.kernel"), name)
    pointers = KERNELS[path]
    constants = {"D": d, "BLOCK_K": 16, "BLOCK_D": column_block(d)}
    signature = {arg: "*" + (dtype if kind == "float" else kind) for arg, kind in pointers.items()}
    signature |= {"n_entries": "i32"} if "n_entries" in kernel.arg_names else {}
    signature |= dict.fromkeys(constants, "constexpr")
    ordered = {arg: signature[arg] for arg in kernel.arg_names}
    place = {arg: (i,) for i, arg in enumerate(kernel.arg_names)}
    source = ASTSource(
        fn=kernel,
        signature=ordered,
        constexprs={place[arg]: value for arg, value in constants.items()},
        attrs={place[arg]: [["tt.divisibility", 16]] for arg in pointers},
    )
    target = GPUTarget("cuda", arch, 32)
    return triton.compile(source, target=target, options=COMPILE_OPTIONS).asm["cubin"]


@pytest.mark.parametrize("path", KERNELS)
@pytest.mark.parametrize(("arch", "dtype", "d"), [(80, "fp32", 768), (90, "bf16", 2304)])
def test_compiles_without_spills(
    path: str, arch: int, dtype: str, d: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled(path, dtype=dtype, arch=arch, d=d))
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton wheel carries no cuobjdump to read register counts with")
    usage = subprocess.run(
        [tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True
    ).stdout
    registers = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert registers is not None, usage
    assert int(registers[2]) == 0, usage  # a spill shows as stack
    assert int(registers[1]) <= 255
