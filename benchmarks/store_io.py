"""Reading and writing a store against `np.memmap`, as ratios of medians in one interleaved run.

    python benchmarks/store_io.py --rows 262144 --width 768 --dtype float16

What is compared does the same work on the same numbers, file in the page cache, and gives float32
rows to the caller:

- sequential: `store.rows` in ranges, against a slice of the memmap turned to float32;
- shuffled: `store.batches`, against the same mixing (same groups, same order, same code) that reads
  its chunks from a memmap;
- write: `StoreWriter.commit` with its statistics and checksums, handed to the system at each
  commit, against assignment to a memmap and `flush` (which waits for the disk) at each commit.

With `--cold` both files are written to the disk (`fsync`) and dropped from the page cache
(`posix_fadvise`) before each pass of the reads; writing is left out.

Each figure is memmap's seconds over the store's: above 1 the store is faster. Nothing is kept.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saetools.store import ActivationStore, StoreWriter, TokenColumns
from saetools.store.schema import CHUNK_ROWS
from saetools.store.shuffle import mixed_batches

HOOK = "blocks.0.hook_resid_post"
TARGETS = {"sequential read": 0.9, "shuffled batches": 1.0, "write": None}
PASSES = {"sequential read": 5}  # one pass takes 15 ms, less than the noise of what ran before it


def main() -> None:
    """Run all cases in turn, several times, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=262_144)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--dtype", default="float16", choices=["float16", "float32"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cold", action="store_true", help="drop the files from memory each time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="where to write; the system's by default")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    torch.set_num_threads(options.threads)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        seconds = measured(
            Path(folder),
            options.rows,
            options.width,
            options.dtype,
            options.repeats,
            cold=options.cold,
        )
    n_bytes = options.rows * options.width * np.dtype(options.dtype).itemsize
    print(
        f"{options.rows:,} x {options.width} {options.dtype} ({n_bytes / 1e9:.2f} GB), "
        f"{'cold disk' if options.cold else 'in the page cache'}, {options.repeats} repeats, "
        f"{options.threads} threads of {os.cpu_count()} cores, "
        f"load {load_before:.1f} before and {os.getloadavg()[0]:.1f} after, "
        f"torch {torch.__version__}"
    )
    print(
        f"{'case':<18} {'store GB/s':>10} {'memmap GB/s':>11} {'ratio':>6} {'p20-p80':>11} target"
    )
    for case, (ours, theirs) in seconds.items():
        ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
        low, high = np.quantile(ratios, [0.2, 0.8])
        one, two = statistics.median(ours), statistics.median(theirs)
        target = TARGETS[case]
        verdict = (
            "-" if target is None else f"{target} {'met' if two / one >= target else 'MISSED'}"
        )
        print(
            f"{case:<18} {n_bytes / one / 1e9:>10.2f} {n_bytes / two / 1e9:>11.2f} "
            f"{two / one:>6.2f} {low:>5.2f}-{high:<5.2f} {verdict}"
        )


def measured(
    folder: Path, rows: int, width: int, dtype: str, repeats: int, *, cold: bool
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of the store and of memmap, by case; the two in turn, each first in half of them."""
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
    x = x.to(getattr(torch, dtype))
    write_store(folder / "acts.h5", x)
    write_memmap(folder / "acts.bin", x)
    ours, theirs = folder / "acts.h5", folder / "acts.bin"

    def both() -> tuple[ActivationStore, np.ndarray]:
        memory = np.memmap(theirs, x.numpy().dtype, "r", shape=(rows, width))
        return ActivationStore.open(ours), memory

    cases: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
        "sequential read": (read_store, read_memmap),
        "shuffled batches": (mix_store, mix_memmap),
    }
    if not cold:
        cases["write"] = (
            lambda _: write_store(folder / "again.h5", x),
            lambda _: write_memmap(folder / "again.bin", x),
        )
    found: dict[str, tuple[list[float], list[float]]] = {case: ([], []) for case in cases}
    opened = both()
    for repeat in range(repeats + 1):
        for case, pair in cases.items():
            for side in (0, 1) if repeat % 2 else (1, 0):
                passes = 1 if cold else PASSES.get(case, 1)
                if cold:
                    opened[0].close()
                    del opened  # what is mapped would stay in memory
                    for path in (ours, theirs):
                        drop(path)
                    opened = both()
                begun = time.perf_counter()
                for _ in range(passes):
                    pair[side](opened[side])
                if repeat:  # the first warms up
                    found[case][side].append((time.perf_counter() - begun) / passes)
    opened[0].close()
    return found


def drop(path: Path) -> None:
    """Write a file to the disk and take it out of the page cache."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def read_store(store: ActivationStore) -> None:
    """Every row once, in order, in float32."""
    for start in range(0, store.n_tokens, CHUNK_ROWS):
        store.rows(start, start + CHUNK_ROWS)


def read_memmap(memory: np.ndarray) -> None:
    """The same."""
    for start in range(0, len(memory), CHUNK_ROWS):
        torch.from_numpy(memory[start : start + CHUNK_ROWS]).float()


def mix_store(store: ActivationStore) -> None:
    """An epoch of shuffled batches of 4096."""
    for _ in store.batches(4096, seed=0, split="all"):
        pass


def mix_memmap(memory: np.ndarray) -> None:
    """The same groups in the same order, copied from the memmap into the same kind of pool."""
    rows = len(memory)
    counts = np.diff(np.append(np.arange(0, rows, CHUNK_ROWS), rows))
    pools: dict[int, Tensor] = {}

    def load(chunks: np.ndarray, turn: int) -> Tensor:
        if turn not in pools:
            kind = torch.from_numpy(np.empty(0, memory.dtype)).dtype
            pools[turn] = torch.empty(32 * CHUNK_ROWS, memory.shape[1], dtype=kind)
        filled = 0
        for chunk in chunks.tolist():
            part = memory[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS]
            pools[turn].numpy()[filled : filled + len(part)] = part
            filled += len(part)
        return pools[turn][:filled]

    for _ in mixed_batches(load, counts, batch_tokens=4096, seed=0, epoch=0, start=0):
        pass


def write_store(path: Path, x: Tensor, *, commit_rows: int = 32_768) -> None:
    """A whole store: rows, columns, statistics, checksums, a flush each commit."""
    path.unlink(missing_ok=True)
    n_docs = -(-len(x) // 128)
    with StoreWriter(
        path,
        manifest={
            "model": {"name": "random"},
            "corpus": {"name": "random"},
            "widths": {HOOK: x.shape[1]},
            "dtype": str(x.dtype).removeprefix("torch."),
        },
        labels=[""] * n_docs,
        titles=[""] * n_docs,
        held_out=np.zeros(n_docs, bool),
    ) as writer:
        for start in range(0, len(x), commit_rows):
            part = x[start : start + commit_rows]
            doc = (np.arange(start, start + len(part)) // 128).astype(np.int32)
            writer.commit({HOOK: part}, TokenColumns(doc, doc, doc), n_docs_done=int(doc[-1]) + 1)
        writer.finish()


def write_memmap(path: Path, x: Tensor, *, commit_rows: int = 32_768) -> None:
    """The rows alone, flushed each commit."""
    path.unlink(missing_ok=True)
    memory = np.memmap(path, x.numpy().dtype, "w+", shape=tuple(x.shape))
    for start in range(0, len(x), commit_rows):
        memory[start : start + commit_rows] = x[start : start + commit_rows].numpy()
        memory.flush()


if __name__ == "__main__":
    main()
