"""A full training step in units of the encoder product alone, ours beside the peers'.

    python benchmarks/train_step.py [--peers-python PYTHON] [--shapes small large]
    python benchmarks/train_step.py --device cuda --peers-python PYTHON

A step is forward, backward, optimiser and decoder normalisation over float32 weights; the product
is x @ W_enc.T into a ready buffer, float32 on a CPU and bfloat16 on a GPU, timed right before each
step in the same process. Every library has a long-lived process of its own (trainers/worker.py).
On a CPU they take turns, so that a busy moment hits all; on a GPU they have it one after another,
since it does not hold all of them. The peak memory is that of the first steps above what the
process held after its imports and the data. Without --peers-python ours and dense PyTorch run
alone. What cannot run says so, the others go on, and the exit status is 1. On a GPU rows are added
to kernels/bench/results/train_step/<device>.csv, elsewhere only to the file that --out names.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from trainers.child import Child, WorkerError
from trainers.commands import Command, commands_of
from trainers.sizes import ARCHS, Size

# The kernels' own benchmark runs from its folder, and is no part of the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernels"))
from bench import record
from bench.workloads import GPU_SHAPES

SHAPES = {
    "cpu": {"small": Size(4096, 512, 8192, 32), "large": Size(2048, 768, 24576, 32)},
    "cuda": {f"d{s.d}": Size(s.n, s.d, s.n_latents, s.k) for s in GPU_SHAPES},
}
TARGETS = {"topk": 1.5, "matryoshka": 1.6}  # products a step, in float32 on a CPU
FASTER = 3.0  # than the peers' steps, on a GPU
_BATCHES = 4
_WARM_UP = 2


class Timing(NamedTuple):
    """What a command took: seconds by round, and bytes."""

    products: list[float]
    steps: list[float]
    peak_bytes: int | None

    @property
    def ratios(self) -> list[float]:
        """Steps in units of the product beside them."""
        return [step / product for step, product in zip(self.steps, self.products, strict=True)]

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.steps)


def planted(size: Size, n_batches: int, device: str) -> np.ndarray:
    """Batches of sparse sums of as many directions as there are latents, with a mean and noise."""
    generator = torch.Generator(device).manual_seed(0)
    drawn: dict[str, Any] = {"generator": generator, "device": device}
    atoms = torch.randn(size.n_latents, size.d_in, **drawn)
    atoms /= atoms.norm(dim=1, keepdim=True)
    n = size.n * n_batches
    which = torch.randint(size.n_latents, (n, size.k), **drawn)
    strength = torch.empty(n, size.k, device=device).exponential_(generator=generator) + 0.2
    x = torch.nn.functional.embedding_bag(which, atoms, per_sample_weights=strength, mode="sum")
    x += torch.randn(size.d_in, **drawn)
    x += 0.02 * torch.randn(n, size.d_in, **drawn)
    return x.view(n_batches, size.n, size.d_in).cpu().numpy()


class Comparison:
    """The children of a run, what they took, and what went wrong.

    Args:
        args: of the command line.
        commands: the lines of the tables.
        out: CSV file for the rows; None keeps them out of any file.
    """

    def __init__(
        self, args: argparse.Namespace, commands: Sequence[Command], out: Path | None
    ) -> None:
        self.args, self.out = args, out
        self.failed: list[str] = []
        self.deadline = float("inf")
        if args.minutes is not None:
            self.deadline = time.monotonic() + 60 * args.minutes
        self.stamp = record.stamps(torch.device(args.device))
        self.children = {
            command: Child(
                command.module,
                python=args.peers_python if command.is_peer else None,
                threads=args.threads,
                device=args.device,
            )
            for command in commands
            if set(command.archs) & set(args.archs)
        }

    def versions(self) -> dict[str, dict[str, str]]:
        """Of each library; one that cannot be imported is told and left out."""
        held = {}
        for command, child in list(self.children.items()):
            try:
                held[child.module] = child.versions
            except WorkerError as error:
                self._tell(command, error)
                del self.children[command]
        return held

    def measure(self, arch: str, size: Size, data: str) -> dict[Command, Timing]:
        """Time the commands that know the architecture: in turns on a CPU, alone on a GPU."""
        asked = [command for command in self.children if arch in command.archs]
        groups = [asked] if self.args.device == "cpu" else [[command] for command in asked]
        timings: dict[Command, Timing] = {}
        for number, group in enumerate(groups):
            if time.monotonic() > self.deadline:
                left = [command.title for later in groups[number:] for command in later]
                print(f"- the time is over; not measured at {tuple(size)}: {'; '.join(left)}")
                break
            found = self._together(group, arch, size, data)
            timings |= found
            if self.out is not None:
                rows = [self._row(c, arch, size, timing) for c, timing in found.items()]
                record.append(rows, self.out)
        return timings

    def _together(
        self, group: Sequence[Command], arch: str, size: Size, data: str
    ) -> dict[Command, Timing]:
        timings: dict[Command, Timing] = {}
        for command in group:
            try:
                found = self.children[command].ask(
                    "prepare",
                    arch=arch,
                    size=list(size),
                    variant=command.variant,
                    batches=data,
                    warm_up=_WARM_UP,
                )
                timings[command] = Timing([], [], found["peak_bytes"])
            except WorkerError as error:
                self._tell(command, error)
        for _ in range(self.args.rounds):
            for command, timing in list(timings.items()):
                try:
                    found = self.children[command].ask("step", clock=self.args.clock)
                    timing.products.append(found["product"])
                    timing.steps.append(found["step"])
                except WorkerError as error:
                    self._tell(command, error)
                    del timings[command]
        for command in group:
            try:
                self.children[command].ask("release")
            except WorkerError as error:  # its process is gone, or its device
                self._tell(command, error)
                self.children.pop(command).close()
        return timings

    def _tell(self, command: Command, error: WorkerError) -> None:
        lines = str(error).strip().splitlines()
        last = lines[-1] if lines[0].endswith("ended:") else lines[0]
        self.failed.append(f"{command.title} cannot run: {last[:300]}")
        print(f"- {self.failed[-1]}", flush=True)

    def _row(self, command: Command, arch: str, size: Size, timing: Timing) -> dict[str, object]:
        low, middle, high = (1e3 * float(q) for q in np.quantile(timing.steps, (0.2, 0.5, 0.8)))
        versions = self.children[command].versions if command in self.children else {}
        peak = timing.peak_bytes
        return {
            **self.stamp,
            "library": command.title,
            "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
            "arch": arch,
            **size._asdict(),
            "clock": self.args.clock,
            "product_ms": f"{1e3 * statistics.median(timing.products):.4f}",
            "median_ms": f"{middle:.4f}",
            "p20_ms": f"{low:.4f}",
            "p80_ms": f"{high:.4f}",
            "of_product": f"{statistics.median(timing.ratios):.3f}",
            "peak_mib": "" if peak is None else f"{peak / 2**20:.1f}",
        }


def report(
    arch: str, size: Size, timings: dict[Command, Timing], *, device: str, lines_of: str
) -> None:
    """Print the table of one architecture and what became of the targets of its lines."""
    print(f"\n### {arch}: n {size.n}, d_in {size.d_in}, n_latents {size.n_latents}, k {size.k}\n")
    print("| | product, ms | step, ms | step / product | p20-p80 | peak memory, MiB |")
    print("|---|---|---|---|---|---|")
    digits = 0 if device == "cpu" else 3
    for command, timing in timings.items():
        low, middle, high = np.quantile(timing.ratios, (0.2, 0.5, 0.8))
        peak = "" if timing.peak_bytes is None else f"{timing.peak_bytes / 2**20:,.0f}"
        print(
            f"| {command.title} | {statistics.median(timing.products) * 1e3:.{digits}f} "
            f"| {timing.step * 1e3:.{digits}f} | {middle:.2f} "
            f"| {low:.2f}-{high:.2f} | {peak} |"
        )
    print()
    if lines_of == "cpu":
        _judge_on_cpu(arch, timings)
    else:
        for line in factors(arch, timings, judged=device == "cuda"):
            print(line)


def factors(arch: str, timings: dict[Command, Timing], *, judged: bool) -> list[str]:
    """How many times faster our fastest step is than the fastest of each peer and dense PyTorch."""
    own = {c: t for c, t in timings.items() if c.title.startswith("saetools")}
    if not own:
        return ["- ours was not measured, so nothing is compared"]
    fastest = min(own, key=lambda c: own[c].step)
    best: dict[str, tuple[Command, float]] = {}
    for command, timing in timings.items():
        if command not in own:
            held = best.get(command.library)
            if held is None or timing.step < held[1]:
                best[command.library] = (command, timing.step)
    lines = []
    for command, step in best.values():
        factor = step / own[fastest].step
        wanted = ""
        if judged and arch == "topk" and command.library in ("sparsify", "SAELens"):
            wanted = f", wanted >= {FASTER:g}: {'met' if factor >= FASTER else 'MISSED'}"
        lines.append(f"- {fastest.title}: {factor:.2f} times faster than {command.title}{wanted}")
    return lines


def _judge_on_cpu(arch: str, timings: dict[Command, Timing]) -> None:
    own = next((t for c, t in timings.items() if c.title == "saetools"), None)
    if own is None:
        return
    ratio = statistics.median(own.ratios)
    if arch in TARGETS:
        print(f"- {ratio:.2f} products a step, wanted <= {TARGETS[arch]}: ", end="")
        print("met" if ratio <= TARGETS[arch] else "MISSED")
    peers = {c.title: t.peak_bytes for c, t in timings.items() if c.is_peer and t.peak_bytes}
    if peers and own.peak_bytes is not None:
        least = min(peers, key=lambda title: peers[title])
        print(
            f"- peak memory {own.peak_bytes / 2**20:,.0f} MiB, wanted under every peer's "
            f"(least: {least}, {peers[least] / 2**20:,.0f}): "
            f"{'met' if own.peak_bytes < peers[least] else 'MISSED'}"
        )


def cpu_name() -> str:
    """Model name of the processor, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def main() -> int:
    """Read the arguments, start the children, print the tables; 1 if anything could not run."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    commands = commands_of(args.rows or args.device, with_peers=bool(args.peers_python))
    device = torch.device(args.device)
    default = record.default_path(device, record.RESULTS / "train_step")
    out = args.out or (default if args.device == "cuda" else None)
    compared = Comparison(args, commands, out)
    name = cpu_name() if args.device == "cpu" else record.device_name(device)
    print(f"{name}, {args.threads} threads, {args.rounds} rounds, {args.clock} clock, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}")
    for versions in compared.versions().values():
        print("- " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    with tempfile.TemporaryDirectory() as folder:
        for number, size in enumerate(_sizes(args)):
            data = f"{folder}/{number}.npy"
            np.save(data, planted(size, _BATCHES, args.device))
            if args.device == "cuda":
                torch.cuda.empty_cache()
            for arch in args.archs:
                timings = compared.measure(arch, size, data)
                report(arch, size, timings, device=args.device, lines_of=args.rows or args.device)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    if out is not None:
        print(f"wrote {out}")
    for child in compared.children.values():
        child.close()
    return 1 if compared.failed else 0


def _sizes(args: argparse.Namespace) -> list[Size]:
    if args.size:
        return [Size(*args.size)]
    known = SHAPES[args.device]
    return [known[name] for name in args.shapes or (["small"] if args.device == "cpu" else known)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=SHAPES, default="cpu")
    parser.add_argument("--peers-python", help="Python of an environment that has the peers")
    names = [name for shapes in SHAPES.values() for name in shapes]
    parser.add_argument("--shapes", nargs="+", choices=names, help="small and large on a CPU")
    parser.add_argument("--size", nargs=4, type=int, help="n d_in n_latents k: a shape of your own")
    parser.add_argument("--archs", nargs="+", choices=ARCHS, default=list(ARCHS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="begin nothing after this long")
    parser.add_argument("--out", type=Path, help="CSV file to add rows to")
    parser.add_argument("--rows", choices=SHAPES, help="the lines meant for another device")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: seconds of the processor, with one thread the better one on a busy machine",
    )
    args = parser.parse_args()
    if strange := set(args.shapes or ()) - set(SHAPES[args.device]):
        parser.error(f"--device {args.device} has no shape {', '.join(sorted(strange))}")
    return args


if __name__ == "__main__":
    raise SystemExit(main())
