"""The Triton rows of the tests beside this one, in a process whose Triton is the interpreter.

Triton decides between interpreter and compiler when it is first imported, so the choice needs a
process of its own, and the tests beside this one stay untouched by it.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (Linux has it)"
)


def in_interpreter(*command: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the interpreter switched on and no leftovers of this session's choices."""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": str(HERE.parents[1] / "kernels"),
    }
    environment.pop("SAETOOLS_KERNELS", None)
    return subprocess.run(
        [sys.executable, *command],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )


# Rows with "triton" in their name, and at least how many each file has.
FILES = {
    "test_every_op.py": 160,
    "test_fused_sparse_adam.py": 5,
    "test_prefix_decode.py": 5,
    "test_selections.py": 10,
    "test_topk_rows.py": 10,
    "test_training_steps.py": 2,
}


@needs_triton
@pytest.mark.parametrize("name", FILES)
def test_triton_kernels_pass_in_the_interpreter(name: str) -> None:
    done = in_interpreter(
        *("-m", "pytest", str(HERE / name), "-q", "-k", "triton"),
        *("--confcutdir", str(HERE), "-p", "no:cacheprovider"),
        # Not the options of the whole suite: they ask for plug-ins that these tests do not need.
        *("-o", "addopts=--import-mode=importlib"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= FILES[name]
    assert "skipped" not in done.stdout


@needs_triton
def test_switching_the_interpreter_on_too_late_is_explained() -> None:
    code = (
        "import os; del os.environ['TRITON_INTERPRET']\n"
        "import triton; os.environ['TRITON_INTERPRET'] = '1'\n"
        "from saetools_kernels import available; print(available().reason)\n"
    )
    done = in_interpreter("-c", code)
    assert "set it before Python starts" in done.stdout, done.stderr


@needs_triton
def test_the_interpreter_counts_as_available_and_refuses_float64() -> None:
    code = (
        "import torch, saetools_kernels as sk; assert sk.available().ok\n"
        "one = torch.ones(1, 1, dtype=torch.float64)\n"
        "with sk.use_implementation('triton'):\n"
        "    try: sk.sparse_decode(one, torch.zeros(1, 1, dtype=torch.int64), one)\n"
        "    except sk.KernelInputError as error: print(error)\n"
    )
    done = in_interpreter("-c", code)
    assert "got torch.float64" in done.stdout, done.stderr
