"""Rows of results: what is stamped on each, and the CSV file of a device.

Needs torch alone, so that other benchmarks stamp their rows the same way.
"""

import csv
import datetime
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["COMMIT_VARIABLE", "RESULTS", "append", "default_path", "device_name", "read", "stamps"]

RESULTS = Path(__file__).parent / "results"
COMMIT_VARIABLE = "BENCH_COMMIT"  # names the commit of a copy that came without its history


def stamps(device: torch.device) -> dict[str, str]:
    """Return device, date, commit and versions, which every row carries."""
    return {
        "device": device_name(device),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "torch": str(torch.__version__),
        "triton": _version("triton"),
        "python": platform.python_version(),
    }


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor's kind and the threads used."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def append(rows: Iterable[Mapping[str, object]], path: Path) -> None:
    """Add rows to a CSV file, with a header where the file is new; on disk when this returns.

    Raises:
        ValueError: when the file has other columns; nothing is written then.
    """
    rows = list(rows)
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    columns = list(rows[0])
    if not new and (held := _columns(path)) != columns:
        odd = ", ".join(sorted(set(held) ^ set(columns))) or "their order"
        raise ValueError(
            f"{path} has other columns than these rows ({odd}): move it away or name another file"
        )
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        if new:
            writer.writeheader()
        writer.writerows(rows)


def read(path: Path, stamp: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the rows of a file that carry this stamp, oldest first."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[name] == value for name, value in stamp.items())]


def _columns(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def default_path(device: torch.device, folder: Path = RESULTS) -> Path:
    """Return where the results of a device belong."""
    return folder / (re.sub(r"[^A-Za-z0-9]+", "_", device_name(device)).strip("_") + ".csv")


def _commit() -> str:
    """Return the commit of the checkout, marked where files differ from it.

    Without git or its history it is what the environment says, else "unknown".
    """
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(COMMIT_VARIABLE) or "unknown"
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
