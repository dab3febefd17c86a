"""Kernels compile for real GPUs on a machine that has none, and keep everything in registers.

What is compiled is what the launchers would launch at the benchmark's shapes, with the same types,
constants and warps: nothing is listed a second time here.
"""

import importlib
import os
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (Linux has it)")

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton runs as an interpreter in this process", allow_module_level=True)

from tests.kernels.compiled import compiled, launches
from tests.kernels.pretend_gpu import Launch

GPUS = {90: torch.bfloat16, 80: torch.float32}  # by generation: an H100 or H200, an A100
EACH = [
    pytest.param(launch, arch, id=f"sm_{arch}-{launch.kernel}-{i}")
    for arch, dtype in GPUS.items()
    for i, launch in enumerate(launches(dtype))
]


@pytest.mark.parametrize(("launch", "arch"), EACH)
def test_compiles_without_spills(
    launch: Launch, arch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    code = compiled(launch, arch=arch)
    if code is None:
        pytest.skip("this Triton wheel carries no cuobjdump to read register counts with")
    assert code.stack == 0, code  # a spill shows as stack
    # A block's registers must fit the 65,536 of a multiprocessor, its memory 48 KiB.
    assert code.registers * 32 * code.n_warps <= 65_536, code
    assert code.shared <= 49_152, code


def test_every_kernel_is_launched_here() -> None:
    folder = Path(importlib.import_module("saetools_kernels").__file__).parent
    found = {
        name
        for path in folder.glob("*/kernel.py")
        for name in re.findall(r"def (\w+_kernel)\(", path.read_text())
    }
    assert found == {launch.kernel for launch in launches(torch.bfloat16)}
