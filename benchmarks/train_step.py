"""A full training step in units of the encoder product alone, ours beside the peers', interleaved.

    python benchmarks/train_step.py [--peers-python PYTHON] [--shapes small large]

A step is forward, backward, optimiser and decoder normalisation, in float32; the product is
x @ W_enc.T into a ready buffer, timed right before each step in the same process. Every library has
a long-lived process of its own (trainers/worker.py); they take turns, so that a busy moment hits
all. The peak memory is that of the first steps above what the process held after its imports and
the data. Without --peers-python ours and dense PyTorch run alone.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from trainers.child import Child
from trainers.sizes import ARCHS, Size

SHAPES = {"small": Size(4096, 512, 8192, 32), "large": Size(2048, 768, 24576, 32)}
TARGETS = {"topk": 1.5, "matryoshka": 1.6}  # products a step
_BATCHES = 4
_WARM_UP = 2


class Command(NamedTuple):
    """A line of the table: its title, the module that drives it, and what it can train."""

    title: str
    module: str
    variant: str = ""
    archs: Sequence[str] = ARCHS
    is_peer: bool = True


OURS = (
    Command("saetools", "of_saetools", "float32", is_peer=False),
    Command("saetools, compute_dtype=bfloat16", "of_saetools", "bfloat16", is_peer=False),
    Command("dense PyTorch autograd", "of_dense", is_peer=False),
)
PEERS = (
    Command("SAELens", "of_saelens"),
    Command("SAELens, sparse activations", "of_saelens", "sparse", ("topk",)),
    Command("dictionary_learning", "of_dictionary_learning"),
    Command("sparsify, signum", "of_sparsify", "signum", ("topk",)),
    Command("sparsify, Adam", "of_sparsify", "adam", ("topk",)),
)


class Timing(NamedTuple):
    """What a command took: seconds by round, and bytes."""

    products: list[float]
    steps: list[float]
    peak_bytes: int | None

    @property
    def ratios(self) -> list[float]:
        """Steps in units of the product beside them."""
        return [step / product for step, product in zip(self.steps, self.products, strict=True)]


def planted(size: Size, n_batches: int) -> np.ndarray:
    """Batches of sparse sums of as many directions as there are latents, with a mean and noise."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(size.n_latents, size.d_in, generator=generator)
    atoms /= atoms.norm(dim=1, keepdim=True)
    n = size.n * n_batches
    which = torch.randint(size.n_latents, (n, size.k), generator=generator)
    strength = torch.empty(n, size.k).exponential_(generator=generator) + 0.2
    x = torch.nn.functional.embedding_bag(which, atoms, per_sample_weights=strength, mode="sum")
    x += torch.randn(size.d_in, generator=generator)
    x += 0.02 * torch.randn(n, size.d_in, generator=generator)
    return x.view(n_batches, size.n, size.d_in).numpy()


def measure(
    children: dict[Command, Child], arch: str, size: Size, data: str, args: argparse.Namespace
) -> dict[Command, Timing]:
    """Time the commands that know the architecture, in turns."""
    asked = {command: child for command, child in children.items() if arch in command.archs}
    timings = {}
    for command, child in asked.items():
        found = child.ask(
            "prepare",
            arch=arch,
            size=list(size),
            variant=command.variant,
            batches=data,
            warm_up=_WARM_UP,
        )
        timings[command] = Timing([], [], found["peak_bytes"])
    for _ in range(args.rounds):
        for command, child in asked.items():
            found = child.ask("step", clock=args.clock)
            timings[command].products.append(found["product"])
            timings[command].steps.append(found["step"])
    return timings


def report(arch: str, size: Size, timings: dict[Command, Timing]) -> None:
    """Print the table of one architecture and what became of the targets."""
    print(f"\n### {arch}: n {size.n}, d_in {size.d_in}, n_latents {size.n_latents}, k {size.k}\n")
    print("| | product, ms | step, ms | step / product | p20-p80 | peak memory, MiB |")
    print("|---|---|---|---|---|---|")
    for command, timing in timings.items():
        low, middle, high = np.quantile(timing.ratios, (0.2, 0.5, 0.8))
        peak = "" if timing.peak_bytes is None else f"{timing.peak_bytes / 2**20:,.0f}"
        print(
            f"| {command.title} | {statistics.median(timing.products) * 1e3:.0f} "
            f"| {statistics.median(timing.steps) * 1e3:.0f} | {middle:.2f} "
            f"| {low:.2f}-{high:.2f} | {peak} |"
        )
    own = timings[OURS[0]]
    ratio = statistics.median(own.ratios)
    print()
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


def main() -> None:
    """Read the arguments, start the children, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers-python", help="Python of an environment that has the peers")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["small"])
    parser.add_argument("--size", nargs=4, type=int, help="n d_in n_latents k: a shape of your own")
    parser.add_argument("--archs", nargs="+", choices=ARCHS, default=list(ARCHS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: seconds of the processor, with one thread the better one on a busy machine",
    )
    args = parser.parse_args()
    commands = OURS + (PEERS if args.peers_python else ())
    children = {
        command: Child(
            command.module,
            python=args.peers_python if command.is_peer else None,
            threads=args.threads,
        )
        for command in commands
        if set(command.archs) & set(args.archs)
    }
    held = {child.module: child.versions for child in children.values()}
    print(
        f"{cpu_name()}, {args.threads} threads, {args.rounds} rounds, {args.clock} clock, ", end=""
    )
    print(f"load {os.getloadavg()[0]:.1f}")
    for versions in held.values():
        print("- " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    with tempfile.TemporaryDirectory() as folder:
        shapes = [Size(*args.size)] if args.size else [SHAPES[name] for name in args.shapes]
        for number, size in enumerate(shapes):
            data = f"{folder}/{number}.npy"
            np.save(data, planted(size, _BATCHES))
            for arch in args.archs:
                report(arch, size, measure(children, arch, size, data, args))
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    for child in children.values():
        child.close()


if __name__ == "__main__":
    main()
