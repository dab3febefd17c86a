"""A worker process of a library, in whichever environment has that library."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["Child"]

_WORKER = Path(__file__).with_name("worker.py")


class Child:
    """Starts `worker.py` and asks it; only one child computes at a time if only one is asked.

    Args:
        module: which library, a module beside this file.
        python: its Python; this process's own where None.
        threads: of its products.
    """

    def __init__(self, module: str, *, python: str | None, threads: int) -> None:
        self.module = module
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - close() closes it
        offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "SPARSIFY_DISABLE_TRITON": "1"}
        self._process = subprocess.Popen(
            [python or sys.executable, str(_WORKER), module, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | offline | {"OMP_NUM_THREADS": str(threads)},
        )
        self._versions: dict[str, str] | None = None

    @property
    def versions(self) -> dict[str, str]:
        """Of its Python and libraries; waits until it is ready."""
        if self._versions is None:
            self._versions = self._answer()
        return self._versions

    def ask(self, do: str, **settings: Any) -> dict[str, Any]:
        """Have it do something and wait for what comes out."""
        assert self.versions
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **settings}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise SystemExit(f"the worker of {self.module} ended:\n{self._errors.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer
