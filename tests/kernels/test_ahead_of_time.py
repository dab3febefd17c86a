"""Kernels compile for real GPUs on a machine that has none, and keep everything in registers."""

import importlib
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed (Linux has it)")

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton runs as an interpreter in this process", allow_module_level=True)

from saetools_kernels._launch import COMPILE_OPTIONS, column_block  # noqa: E402

BITS = {"fp32": 32, "bf16": 16}


@dataclass(frozen=True)
class Build:
    """How one kernel is compiled.

    Args:
        kernel: `<op>.<name>`; the same kernel may stand here with several settings.
        arguments: type of each run-time argument, pointers with "*"; "float" is the dtype tested.
        constants: compile-time arguments, given the dtype and the width d.
        num_warps: as the launcher sets it.
    """

    kernel: str
    arguments: Mapping[str, str]
    constants: Callable[[str, int], Mapping[str, Any]] = lambda dtype, d: {
        "D": d,
        "BLOCK_K": 16,
        "BLOCK_D": column_block(d),
    }
    num_warps: int = 4
    name: str = field(default="")


def _select(*, block: int, num_warps: int, is_key: bool, in_groups: bool, values: bool) -> Build:
    return Build(
        "topk_rows.select_fwd_kernel",
        {
            "x_ptr": "*i32" if is_key else "*float",
            "groups_ptr": "*i32",
            "values_ptr": "*float",
            "indices_ptr": "*i64" if values else "*i32",
            "row_stride": "i32",
            "n_columns": "i32",
            "k": "i32",
        },
        lambda dtype, d: {
            "IS_KEY": is_key,
            "IN_GROUPS": in_groups,
            "WITH_VALUES": values,
            "N_BITS": BITS[dtype],
            "GROUP_SIZE": 8 if block == 4096 else 32,
            "BLOCK": block,
        },
        num_warps=num_warps,
        name=f"{block} {'in groups' if in_groups else 'in all'}",
    )


_ROW = {"row_stride": "i32", "n_columns": "i32", "n_groups": "i32"}


def _keys(dtype: str) -> dict[str, int]:
    return {"N_BITS": BITS[dtype], "GROUP_SIZE": 32, "BLOCK": 2048}


def _adam(d: int) -> Build:
    from saetools_kernels.fused_sparse_adam.kernel import row_options

    options = row_options(d)
    term = {
        "values": "*fp32",
        "rows": "*i64",
        "offsets": "*i64",
        "source": "*float",
        "pieces": "*i64",
        "partial": "*fp32",
    }
    scalars = ("step_size", "keep_m", "take_m", "keep_v", "take_v", "correction", "eps", "scale")
    return Build(
        "fused_sparse_adam.adam_fwd_kernel",
        {
            "W_ptr": "*fp32",
            "m_ptr": "*float",
            "v_ptr": "*float",
            "shadow_ptr": "*bf16",
            **{f"{name}_a": kind for name, kind in term.items()},
            **{f"{name}_b": kind for name, kind in term.items()},
            "place_ptr": "*i32",
            "some_ptr": "*float",
            "whole_ptr": "*float",
            **dict.fromkeys(scalars, "fp32"),
        },
        lambda *_: {
            "N_TERMS": 2,
            "HAS_SOME": True,
            "HAS_WHOLE": False,
            "HAS_SHADOW": True,
            "UNIT_ROWS": True,
            "D": d,
            "BLOCK_K": options["BLOCK_K"],
            "BLOCK_D": options["BLOCK_D"],
        },
        num_warps=options["num_warps"],
        name=f"rows of {d}",
    )


def _prefix(n_levels: int) -> Build:
    return Build(
        "prefix_decode.prefix_decode_fwd_kernel",
        {
            "values_ptr": "*float",
            "latents_ptr": "*i64",
            "bounds_ptr": "*i64",
            "W_ptr": "*float",
            "target_ptr": "*fp32",
            "weights_ptr": "*fp32",
            "sources_ptr": "*float",
            "residual_ptr": "*float",
            "errors_ptr": "*fp32",
            "dots_ptr": "*fp32",
            "n_entries": "i32",
        },
        lambda dtype, d: {
            "D": d,
            "N_LEVELS": n_levels,
            "LEVELS": triton.next_power_of_2(n_levels),
            "BLOCK_K": 16,
            "BLOCK_D": column_block(d),
        },
        name=f"{n_levels} levels",
    )


BUILDS = (
    Build(
        "sparse_decode.bag_decode_fwd_kernel",
        {
            "values_ptr": "*float",
            "indices_ptr": "*i64",
            "offsets_ptr": "*i64",
            "W_ptr": "*float",
            "out_ptr": "*float",
        },
    ),
    Build(
        "row_scatter_add.row_scatter_add_fwd_kernel",
        {
            "values_ptr": "*float",
            "rows_ptr": "*i64",
            "permutation_ptr": "*i64",
            "offsets_ptr": "*i64",
            "x_ptr": "*float",
            "out_ptr": "*float",
        },
    ),
    Build(
        "gathered_dots.gathered_dots_fwd_kernel",
        {
            "g_ptr": "*float",
            "W_ptr": "*float",
            "rows_ptr": "*i64",
            "latents_ptr": "*i64",
            "out_ptr": "*float",
            "n_entries": "i32",
        },
    ),
    Build(
        "fused_sparse_adam.split_sums_fwd_kernel",
        {
            "values_ptr": "*float",
            "rows_ptr": "*i64",
            "offsets_ptr": "*i64",
            "source_ptr": "*float",
            "pieces_ptr": "*i64",
            "owner_ptr": "*i64",
            "partial_ptr": "*fp32",
            "n_latents": "i32",
        },
        lambda dtype, d: {"D": d, "SPLIT": 1024, "BLOCK_K": 16, "BLOCK_D": column_block(d)},
    ),
    *(_adam(d) for d in (768, 2304, 4096, 8192)),
    *(_prefix(n_levels) for n_levels in (1, 5, 8)),
    Build(
        "topk_rows.group_max_fwd_kernel",
        {
            "x_ptr": "*float",
            "maxima_ptr": "*i32",
            "row_stride": "i32",
            "n_columns": "i32",
            "n_groups": "i32",
        },
        lambda dtype, d: {"IS_KEY": False, "N_BITS": BITS[dtype], "GROUP_SIZE": 32, "BLOCK": 128},
    ),
    Build(
        "threshold_rows.count_above_fwd_kernel",
        {
            "x_ptr": "*float",
            "thresholds_ptr": "*fp32",
            "counts_ptr": "*i32",
            "row_stride": "i32",
            "n_columns": "i32",
        },
        lambda *_: {"BLOCK": 2048},
    ),
    Build(
        "threshold_rows.fill_above_fwd_kernel",
        {
            "x_ptr": "*float",
            "thresholds_ptr": "*fp32",
            "starts_ptr": "*i64",
            "values_ptr": "*float",
            "rows_ptr": "*i64",
            "latents_ptr": "*i64",
            "row_stride": "i32",
            "n_columns": "i32",
        },
        lambda *_: {"BLOCK": 2048},
    ),
    Build(
        "batch_topk.count_digits_fwd_kernel",
        {
            "x_ptr": "*float",
            "maxima_ptr": "*i32",
            "floor_ptr": "*i64",
            "found_ptr": "*i64",
            "counts_ptr": "*i32",
            **_ROW,
            "shift": "i32",
        },
        lambda dtype, d: {"IS_KEY": False, **_keys(dtype)},
    ),
    Build(
        "batch_topk.count_largest_fwd_kernel",
        {
            "x_ptr": "*float",
            "maxima_ptr": "*i32",
            "threshold_ptr": "*i64",
            "n_above_ptr": "*i32",
            "n_equal_ptr": "*i32",
            **_ROW,
        },
        lambda dtype, d: _keys(dtype),
    ),
    Build(
        "batch_topk.fill_largest_fwd_kernel",
        {
            "x_ptr": "*float",
            "maxima_ptr": "*i32",
            "threshold_ptr": "*i64",
            "above_ptr": "*i64",
            "equal_ptr": "*i64",
            "missing_ptr": "*i64",
            "values_ptr": "*float",
            "rows_ptr": "*i64",
            "latents_ptr": "*i64",
            **_ROW,
        },
        lambda dtype, d: _keys(dtype),
    ),
    _select(block=1024, num_warps=2, is_key=False, in_groups=True, values=True),
    _select(block=4096, num_warps=8, is_key=True, in_groups=False, values=False),
    _select(block=4096, num_warps=8, is_key=False, in_groups=True, values=True),
)


def compiled(build: Build, *, dtype: str, arch: int, d: int) -> Any:
    """Return a kernel compiled for one GPU generation."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    op, _, name = build.kernel.partition(".")
    kernel = getattr(importlib.import_module(f"saetools_kernels.{op}.kernel"), name)
    constants = build.constants(dtype, d)
    signature = {arg: kind.replace("float", dtype) for arg, kind in build.arguments.items()}
    signature |= dict.fromkeys(constants, "constexpr")
    place = {arg: (i,) for i, arg in enumerate(kernel.arg_names)}
    assert set(signature) == set(place), "the table and the kernel's arguments differ"
    source = ASTSource(
        fn=kernel,
        signature={arg: signature[arg] for arg in kernel.arg_names},
        constexprs={place[arg]: value for arg, value in constants.items()},
        attrs={
            place[arg]: [["tt.divisibility", 16]]
            for arg, kind in build.arguments.items()
            if kind.startswith("*") or arg == "row_stride"
        },
    )
    options = {**COMPILE_OPTIONS, "num_warps": build.num_warps}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


@pytest.mark.parametrize("build", [pytest.param(b, id=f"{b.kernel} {b.name}") for b in BUILDS])
@pytest.mark.parametrize(("arch", "dtype", "d"), [(80, "fp32", 768), (90, "bf16", 2304)])
def test_compiles_without_spills(
    build: Build, arch: int, dtype: str, d: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    code = compiled(build, dtype=dtype, arch=arch, d=d)
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(code.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton wheel carries no cuobjdump to read register counts with")
    usage = subprocess.run(
        [tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    registers, stack = int(found[1]), int(found[2])
    assert stack == 0, usage  # a spill shows as stack
    # A block's registers must fit the 65,536 of a multiprocessor, its memory 48 KiB.
    assert registers * 32 * build.num_warps <= 65_536, usage
    assert code.metadata.shared <= 49_152


def test_every_kernel_is_in_the_table() -> None:
    folder = Path(importlib.import_module("saetools_kernels").__file__).parent
    found = {
        f"{path.parent.name}.{name}"
        for path in folder.glob("*/kernel.py")
        for name in re.findall(r"def (\w+_kernel)\(", path.read_text())
    }
    assert found == {build.kernel for build in BUILDS}
