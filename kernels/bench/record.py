"""Rows of results: what is stamped on each, and the CSV file of a device."""

import csv
import datetime
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["RESULTS", "append", "default_path", "device_name", "stamps"]

RESULTS = Path(__file__).parent / "results"


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


def append(rows: Iterable[dict[str, object]], path: Path) -> None:
    """Add rows to a CSV file, with a header where the file is new."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)


def default_path(device: torch.device) -> Path:
    """Return where the results of a device belong."""
    return RESULTS / (re.sub(r"[^A-Za-z0-9]+", "_", device_name(device)).strip("_") + ".csv")


def _commit() -> str:
    """Return the commit of the checkout, marked where files differ from it; else "unknown"."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
