"""A child of the training benchmarks: does with one library what its parent asks.

    PYTHON worker.py MODULE THREADS DEVICE

Reads a JSON command a line and answers each with a JSON line, {"error": ...} where it failed; what
libraries print goes to stderr. Commands: "prepare" builds a training step and runs it a few times
to find its peak memory; "step" times it beside the encoder product alone; "release" forgets both;
"train" trains an SAE and writes its weights.
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from device import Device, device_named
from sizes import Size
from torch import Tensor


class Worker:
    """Holds what lives between commands: data, the step, the product's operands."""

    def __init__(self, library: ModuleType, device: Device) -> None:
        self.library, self.device = library, device
        # What the first product and the first optimiser of a process load counts as imported.
        ones = torch.ones(64, 64, requires_grad=True, device=device.torch_device)
        (ones @ ones).sum().backward()
        torch.optim.Adam([ones]).step()
        self.after_import = device.used_bytes()
        self.step: Callable[[Tensor], None] | None = None

    def prepare(
        self, arch: str, size: list[int], variant: str, batches: str, warm_up: int
    ) -> dict[str, Any]:
        """Build a step, take some, and tell the peak memory above that after import."""
        self.release()
        shape, device = Size(*size), self.device
        self.batches = torch.from_numpy(np.load(batches)).to(device.torch_device)
        self.n_steps_done = 0
        held = self.batches.numel() * self.batches.element_size()
        device.forget_peak()
        self.step = self.library.stepper(arch, shape, variant, self.batches[0])
        for _ in range(warm_up):
            self._next_step()
        peak = device.peak_bytes()
        self.product = self._operands(shape)
        self._multiply()
        if peak is None or self.after_import is None:
            return {"peak_bytes": None}
        return {"peak_bytes": peak - self.after_import - held}

    def release(self) -> dict[str, Any]:
        """Forget the step and its data, so that another process has the memory."""
        self.step = self.batches = self.product = None
        self.device.give_back()
        return {}

    def timed_step(self, clock: str) -> dict[str, Any]:
        """Seconds of the product, and of a step right after it; of time, or of the processor's."""
        seconds = self.device.seconds
        product = seconds(self._multiply, clock=clock)
        return {"product": product, "step": seconds(self._next_step, clock=clock)}

    def train(self, job: dict[str, Any]) -> dict[str, Any]:
        """Train an SAE, write its weights to job["out"]."""
        begun = time.perf_counter()
        tensors = self.library.train(job)
        np.savez(job["out"], **{name: t.detach().float().numpy() for name, t in tensors.items()})
        return {"seconds": time.perf_counter() - begun}

    def _operands(self, shape: Size) -> tuple[Tensor, Tensor, Tensor]:
        device, dtype = self.device.torch_device, self.device.product_dtype
        generator = torch.Generator(device).manual_seed(1)
        weight = torch.randn(shape.n_latents, shape.d_in, generator=generator, device=device)
        out = torch.empty(shape.n, shape.n_latents, device=device, dtype=dtype)
        return self.batches[0].to(dtype), weight.to(dtype).T, out

    def _next_step(self) -> None:
        assert self.step is not None
        self.step(self.batches[self.n_steps_done % len(self.batches)])
        self.n_steps_done += 1

    def _multiply(self) -> None:
        x, weight, out = self.product
        torch.mm(x, weight, out=out)


def main() -> None:
    """Answer commands until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    torch.set_num_threads(int(sys.argv[2]))
    device = device_named(sys.argv[3])
    worker = Worker(importlib.import_module(sys.argv[1]), device)
    versions = {"python": sys.version.split()[0], **worker.library.VERSIONS}
    answers.write(json.dumps(versions) + "\n")
    commands = {
        "prepare": worker.prepare,
        "release": worker.release,
        "step": worker.timed_step,
        "train": worker.train,
    }
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = commands[asked.pop("do")](**asked)
        except Exception as error:  # whatever a library or a full memory says; the parent tells it
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
