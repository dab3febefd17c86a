"""Measure each op and the whole training step, in three forms: eager, torch.compile, ours.

    cd kernels && python -m bench.run [--only step_topk] [--shape 4096,512,8192,32] [--out FILE]

Needs torch, and Triton for a GPU; saetools need not be installed. Nothing is timed before ours and
eager agree on the same inputs. Every row carries device, date, commit and versions. On a GPU rows
are added to bench/results/<device>.csv, elsewhere only to the file that --out names. Times in
milliseconds (median, 20th and 80th percentile), memory is the most held beyond the inputs (GPU
only), "of product" is the time as a part of the encoder product's; lower is better. Rows are on
disk as soon as they are measured; what fails is told, the rest goes on, and the exit status is 1.
With --profile the steps are not timed but taken apart by kernel.
"""

import argparse
import gc
import os
import sys
import time
from pathlib import Path

import torch

from bench import kernel_times, record, targets
from bench.job import PROVIDERS, Bench, Job, Row, plan
from bench.measure import ceilings, in_a_row
from bench.workloads import CPU_SHAPES, GPU_SHAPES, NAMES, Shape, build

__all__ = ["main"]

STEPS = tuple(name for name in NAMES if name.startswith("step"))


def main() -> int:
    """Run what the command line asks for; 1 if something failed or disagreed and was not timed."""
    chosen = _arguments()
    device = torch.device(chosen.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    on_gpu = device.type == "cuda"
    shapes = chosen.shape or list(GPU_SHAPES if on_gpu else CPU_SHAPES)
    stamp = record.stamps(device)
    print(", ".join(f"{name} {value}" for name, value in stamp.items()))
    if chosen.profile:
        return _profile(chosen, device, shapes, stamp)
    limits = ceilings(device)
    print(f"ceilings: {limits.bytes_per_s:.3g} bytes/s copied, {limits.flops_per_s:.3g} FLOP/s")
    bench = Bench(
        device, torch.bfloat16 if on_gpu else torch.float32, stamp, limits, chosen.repeats
    )
    out = chosen.out or (record.default_path(device) if on_gpu else None)
    jobs = plan(chosen.only or NAMES[1:], shapes, chosen.providers)
    rows, failed = _measure(bench, jobs, chosen, out)
    if out is not None:
        print(f"\nwrote {out}")
        rows = [dict(row) for row in record.read(out, stamp)]
    sizes = [(s.n, s.d, s.n_latents, s.k) for s in shapes]
    print("\n" + targets.table(rows, sizes, device=stamp["device"], on_gpu=on_gpu))
    for reason in failed:
        print(f"FAILED: {reason}")
    return 1 if failed else 0


def _measure(
    bench: Bench, jobs: tuple[Job, ...], chosen: argparse.Namespace, out: Path | None
) -> tuple[list[Row], list[str]]:
    """Work through the jobs; rows, and what failed and why."""
    deadline, rows, failed = _deadline(chosen.minutes), [], list(chosen.failed)
    for number, job in enumerate(jobs):
        if number < chosen.start:
            continue
        if time.monotonic() > deadline:
            print(f"\nthe {chosen.minutes:g} minutes are over; not measured:")
            print("".join(f"  {left}\n" for left in jobs[number:]), end="")
            break
        print(f"[{number + 1}/{len(jobs)}] {job}", flush=True)
        try:
            found = bench.rows(job)
            if out is not None:
                record.append(found, out)
            for row in found:
                _show(row)
            rows += found
        except KeyboardInterrupt:
            print(f"\nstopped at {job}; go on with --start {number}")
            break
        except Exception as error:  # whatever a compiler, a driver or a full memory says
            failed.append(_reason(job, error))
            print(f"  {failed[-1]}", flush=True)
        if not _usable(bench.device):
            _go_on_in_a_fresh_process(number + 1, deadline, failed)
    return rows, failed


def _profile(
    chosen: argparse.Namespace, device: torch.device, shapes: list[Shape], stamp: dict[str, str]
) -> int:
    """Write the kernels of our steps to a CSV file and print the longest."""
    deadline, failed = _deadline(chosen.minutes), list(chosen.failed)
    jobs = plan([name for name in chosen.only or STEPS if name in STEPS], shapes, ("ours",))
    for job in jobs:
        if time.monotonic() > deadline:
            print(f"the {chosen.minutes:g} minutes are over before {job}")
            break
        try:
            work = build(job.name, job.shape, device=device, dtype=torch.float32)
            found = kernel_times.by_kernel(work.ours, device=device)
            rows = kernel_times.rows(found, stamp, job.name, vars(job.shape))
            record.append(rows, chosen.profile)
        except Exception as error:  # as above
            failed.append(_reason(job, error))
            print(failed[-1], flush=True)
            continue
        total, whole = sum(one.milliseconds for one in found), in_a_row(work.ours, device=device)
        of_step = "" if whole is None else f" of {whole:.3f} ms a step, one after another"
        print(f"\n{job.name} at {job.shape}: {total:.3f} ms in kernels{of_step}")
        for row in rows[:12]:
            print(f"  {row['ms']:>9} ms {row['share']:>6} {row['count']:>5}x {row['kernel']}")
        del work
        _usable(device)
    print(f"\nwrote {chosen.profile}")
    return 1 if failed else 0


def _deadline(minutes: float | None) -> float:
    return float("inf") if minutes is None else time.monotonic() + 60 * minutes


def _reason(job: Job, error: Exception) -> str:
    if isinstance(error, AssertionError):
        return f"{job} NOT TIMED: ours and eager disagree: {error}"
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{job} cannot run here: {type(error).__name__}: {first[:300]}"


def _usable(device: torch.device) -> bool:
    """Give memory back; tell whether the device still answers after what was run on it."""
    gc.collect()
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def _go_on_in_a_fresh_process(start: int, deadline: float, failed: list[str]) -> None:
    """Replace this process: after an illegal access nothing runs on the device any more."""
    print("the device no longer answers in this process: a fresh one goes on", flush=True)
    left = [] if deadline == float("inf") else [f"{max(0.0, deadline - time.monotonic()) / 60:.3f}"]
    again = [sys.executable, "-m", "bench.run", *sys.argv[1:], "--start", str(start)]
    again += [part for minutes in left for part in ("--minutes", minutes)]
    # The reasons known before came with the arguments.
    known = sys.argv.count("--failed")
    again += [part for reason in failed[known:] for part in ("--failed", reason)]
    os.closerange(3, 4096)  # with what the driver still holds open
    os.execv(sys.executable, again)


def _show(row: Row) -> None:
    print(
        f"  {row['op']:18s} {row['provider']:8s} {row['median_ms']:>10s} ms "
        f"[{row['p20_ms']}, {row['p80_ms']}]  {row['in_a_row_ms'] or '-'} in a row"
        f"  {row['of_product']} of product"
        f"  {row['of_copy'] or '-'} of copy  {row['of_matmul'] or '-'} of matmul"
        f"  {row['peak_mib'] or '-'} MiB",
        flush=True,
    )


def _shape(text: str) -> Shape:
    n, d, n_latents, k = (int(part) for part in text.split(","))
    return Shape(n, d, n_latents, k)


def _providers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(PROVIDERS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {PROVIDERS}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU where there is one")
    parser.add_argument("--only", action="append", choices=NAMES[1:], help="may be repeated")
    parser.add_argument("--shape", action="append", type=_shape, help="n,d,n_latents,k")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; default: torch's")
    parser.add_argument(
        "--providers", type=_providers, default=PROVIDERS, help="some of eager,ours,compile"
    )
    parser.add_argument("--out", type=Path, help="CSV file to add rows to")
    parser.add_argument("--minutes", type=float, help="begin nothing after this long")
    parser.add_argument("--start", type=int, default=0, help="leave out this many of the jobs")
    parser.add_argument("--profile", type=Path, help="CSV file to write the steps' kernels to")
    parser.add_argument("--failed", action="append", default=[], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
