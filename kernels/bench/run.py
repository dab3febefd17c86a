"""Measure each op and the whole training step, in three forms: eager, torch.compile, ours.

    cd kernels && python -m bench.run [--only step_topk] [--shape 4096,512,8192,32] [--out FILE]

Needs torch, and Triton for a GPU; saetools need not be installed. Nothing is timed before ours and
eager agree on the same inputs. Every row carries device, date, commit and versions. On a GPU rows
are added to bench/results/<device>.csv, elsewhere only to the file that --out names. Times in
milliseconds (median, 20th and 80th percentile), memory is the most held beyond the inputs (GPU
only), "of product" is the time as a part of the encoder product's; lower is better.
"""

import argparse
from pathlib import Path

import torch

from bench import record
from bench.measure import Call, Ceilings, Timing, ceilings, peak_bytes, timed
from bench.workloads import CPU_SHAPES, GPU_SHAPES, NAMES, Shape, Workload, build

__all__ = ["main"]

PROVIDERS = ("eager", "compile", "ours")
Row = dict[str, object]


def main() -> int:
    """Run what the command line asks for; 1 if something disagreed and was not timed."""
    chosen = _arguments()
    device = torch.device(chosen.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    shapes = chosen.shape or (GPU_SHAPES if on_gpu else CPU_SHAPES)
    out = chosen.out or (record.default_path(device) if on_gpu else None)
    limits, stamp = ceilings(device), record.stamps(device)
    print(", ".join(f"{name} {value}" for name, value in stamp.items()))
    print(f"ceilings: {limits.bytes_per_s:.3g} bytes/s copied, {limits.flops_per_s:.3g} FLOP/s")
    all_agree = True
    for shape in shapes:
        print(f"\n{shape}, {dtype}")
        unit = _measured(build("encoder_product", shape, device=device, dtype=dtype), ("ours",),
                         device=device, repeats=chosen.repeats)["ours"][0].median  # fmt: skip
        print(f"  {'encoder_product':18s} {'':8s} {unit:10.3f} ms")
        for name in chosen.only or NAMES[1:]:
            work = build(name, shape, device=device, dtype=dtype)
            try:
                work.agrees()
            except AssertionError as error:
                print(f"  {name:18s} NOT TIMED: ours and eager disagree: {error}")
                all_agree = False
                continue
            found = _measured(work, chosen.providers, device=device, repeats=chosen.repeats)
            rows = [
                _row(stamp, work, shape, provider, timing, memory, limits, unit, dtype)
                for provider, (timing, memory) in found.items()
            ]
            for row in rows:
                _show(row)
            if out is not None and rows:
                record.append(rows, out)
            del work, found
            if on_gpu:
                torch.cuda.empty_cache()
    if out is not None:
        print(f"\nwrote {out}")
    return 0 if all_agree else 1


def _measured(
    work: Workload, providers: tuple[str, ...], *, device: torch.device, repeats: int
) -> dict[str, tuple[Timing, int | None]]:
    """Time and peak memory by provider, in turns; one that cannot run here is left out, aloud."""
    calls: dict[str, Call] = {}
    for provider in providers:
        call = _call(work, provider)
        try:
            call()
        except Exception as error:  # whatever a compiler of this machine says
            if provider != "compile":
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            print(f"  {work.name:18s} compile cannot run here: {reason[:120]}")
            continue
        calls[provider] = call
    memory = {name: peak_bytes(call, device=device) for name, call in calls.items()}
    times = timed(calls, device=device, repeats=repeats)
    return {name: (times[name], memory[name]) for name in calls}


def _call(work: Workload, provider: str) -> Call:
    if provider == "ours":
        return work.ours
    if provider == "eager":
        return lambda: work.eager(*work.arguments)
    if work.compiled is not None:
        return work.compiled
    compiled = torch.compile(work.eager, dynamic=False)
    return lambda: compiled(*work.arguments)


def _row(
    stamp: dict[str, str],
    work: Workload,
    shape: Shape,
    provider: str,
    timing: Timing,
    memory: int | None,
    limits: Ceilings,
    unit: float,
    dtype: torch.dtype,
) -> Row:
    per_s = 1e3 / timing.median
    rates = {"bytes": work.n_bytes * per_s, "flops": work.n_flops * per_s}
    return {
        **stamp,
        "op": work.name,
        "provider": provider,
        **vars(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "median_ms": f"{timing.median:.4f}",
        "p20_ms": f"{timing.p20:.4f}",
        "p80_ms": f"{timing.p80:.4f}",
        "of_product": f"{timing.median / unit:.3f}",
        "peak_mib": "" if memory is None else f"{memory / 2**20:.1f}",
        "bytes_per_s": f"{rates['bytes']:.3g}" if work.n_bytes else "",
        "of_copy": f"{rates['bytes'] / limits.bytes_per_s:.3f}" if work.n_bytes else "",
        "flops_per_s": f"{rates['flops']:.3g}" if work.n_flops else "",
        "of_matmul": f"{rates['flops'] / limits.flops_per_s:.3f}" if work.n_flops else "",
    }


def _show(row: Row) -> None:
    print(
        f"  {row['op']:18s} {row['provider']:8s} {row['median_ms']:>10s} ms "
        f"[{row['p20_ms']}, {row['p80_ms']}]  {row['of_product']} of product"
        f"  {row['of_copy'] or '-'} of copy  {row['of_matmul'] or '-'} of matmul"
        f"  {row['peak_mib'] or '-'} MiB",
        flush=True,
    )


def _shape(text: str) -> Shape:
    n, d, n_latents, k = (int(part) for part in text.split(","))
    return Shape(n, d, n_latents, k)


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
        "--providers",
        type=lambda text: tuple(text.split(",")),
        default=PROVIDERS,
        help="some of eager,compile,ours",
    )
    parser.add_argument("--out", type=Path, help="CSV file to add rows to")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
