"""A worker process of a library, in whichever environment has that library."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["Child", "WorkerError"]

_WORKER = Path(__file__).with_name("worker.py")
_ROOT = Path(__file__).resolve().parents[2]


class WorkerError(RuntimeError):
    """A library could not be imported, or not do what it was asked; the message is its last."""


class Child:
    """Starts `worker.py` and asks it; only one child computes at a time if only one is asked.

    Args:
        module: which library, a module beside this file.
        python: its Python; this process's own where None.
        threads: of its products.
        device: "cpu" or "cuda".
    """

    def __init__(
        self, module: str, *, python: str | None, threads: int, device: str = "cpu"
    ) -> None:
        self.module = module
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - close() closes it
        # Ours is that of this checkout, installed or not; the others are what their Python has.
        path = [] if python else [str(_ROOT), str(_ROOT / "kernels")]
        path += filter(None, [os.environ.get("PYTHONPATH")])
        chosen = {
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "disabled",
            "SPARSIFY_DISABLE_TRITON": "1" if device == "cpu" else "0",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(path),
        }
        self._process = subprocess.Popen(
            [python or sys.executable, str(_WORKER), module, str(threads), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | chosen,
        )
        self._versions: dict[str, str] | None = None

    @property
    def versions(self) -> dict[str, str]:
        """Of its Python and libraries; waits until it is ready."""
        if self._versions is None:
            self._versions = self._answer()
        return self._versions

    def ask(self, do: str, **settings: Any) -> dict[str, Any]:
        """Have it do something and wait for what comes out.

        Raises:
            WorkerError: when it could not; unless its process ended it can be asked again.
        """
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
            said = self._errors.read().strip()[-3000:]
            raise WorkerError(f"the worker of {self.module} ended:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer
