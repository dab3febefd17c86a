"""A child of the training benchmarks: does with one library what its parent asks.

    PYTHON worker.py MODULE THREADS

Reads a JSON command a line and answers each with a JSON line; what libraries print goes to stderr.
Commands: "prepare" builds a training step and runs it a few times to find its peak memory; "step"
times it beside the encoder product alone; "train" trains an SAE and writes its weights.
"""

import ctypes
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sizes import Size
from torch import Tensor

_STATUS = Path("/proc/self/status")


class Worker:
    """Holds what lives between commands: data, the step, the product's operands."""

    def __init__(self, library: ModuleType) -> None:
        self.library = library
        # What the first product and the first optimiser of a process load counts as imported.
        ones = torch.ones(64, 64, requires_grad=True)
        (ones @ ones).sum().backward()
        torch.optim.Adam([ones]).step()
        self.after_import = memory("VmRSS")
        self.step: Callable[[Tensor], None] | None = None

    def prepare(
        self, arch: str, size: list[int], variant: str, batches: str, warm_up: int
    ) -> dict[str, Any]:
        """Build a step, take some, and tell the peak memory above that after import."""
        self.step = self.batches = self.product = None
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        shape = Size(*size)
        self.batches, self.n_steps_done = torch.from_numpy(np.load(batches)), 0
        held = self.batches.numel() * self.batches.element_size()
        forget_peak()
        self.step = self.library.stepper(arch, shape, variant, self.batches[0])
        for _ in range(warm_up):
            self._next_step()
        peak = memory("VmHWM")
        generator = torch.Generator().manual_seed(1)
        weight = torch.randn(shape.n_latents, shape.d_in, generator=generator)
        self.product = (weight.T, torch.empty(shape.n, shape.n_latents))
        self._multiply()
        if peak is None or self.after_import is None:
            return {"peak_bytes": None}
        return {"peak_bytes": peak - self.after_import - held}

    def timed_step(self, clock: str) -> dict[str, Any]:
        """Seconds of the product, and of a step right after it; of time, or of the processor's."""
        now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
        begun = now()
        self._multiply()
        between = now()
        self._next_step()
        return {"product": between - begun, "step": now() - between}

    def train(self, job: dict[str, Any]) -> dict[str, Any]:
        """Train an SAE, write its weights to job["out"]."""
        begun = time.perf_counter()
        tensors = self.library.train(job)
        np.savez(job["out"], **{name: t.detach().float().numpy() for name, t in tensors.items()})
        return {"seconds": time.perf_counter() - begun}

    def _next_step(self) -> None:
        assert self.step is not None
        self.step(self.batches[self.n_steps_done % len(self.batches)])
        self.n_steps_done += 1

    def _multiply(self) -> None:
        weight, out = self.product
        torch.mm(self.batches[0], weight, out=out)


def memory(field: str) -> int | None:
    """A figure of /proc/self/status in bytes; None where there is no such file."""
    if not _STATUS.exists():
        return None
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Let VmHWM start again from the memory that is held now."""
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Answer commands until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    torch.set_num_threads(int(sys.argv[2]))
    worker = Worker(importlib.import_module(sys.argv[1]))
    versions = {"python": sys.version.split()[0], **worker.library.VERSIONS}
    answers.write(json.dumps(versions) + "\n")
    commands = {"prepare": worker.prepare, "step": worker.timed_step, "train": worker.train}
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(commands[asked.pop("do")](**asked)) + "\n")


if __name__ == "__main__":
    main()
