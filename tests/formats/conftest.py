"""SAEs of ours away from where training starts, and the python of the other libraries."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import saetools as st
from saetools.sae import SAE

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "SAETOOLS_PEERS_PYTHON"

# Tests are no package; `format_weights` and `hub_stub` beside this file are shared by some.
sys.path.insert(0, str(Path(__file__).resolve().parent))


def _trained(kind: str, *, d_in: int = 16, n_latents: int = 64, **fields: Any) -> SAE:
    """An SAE whose every tensor is away from where training starts."""
    sae = st.build_sae(kind, d_in=d_in, n_latents=n_latents, seed=1, **fields)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
        if kind == "jumprelu":
            sae.get_parameter("threshold").copy_(torch.linspace(0, 1, n_latents))
    sae.meta |= {"hook_name": "blocks.3.hook_resid_post", "model": {"name": "gpt2"}}
    ready = sae if sae.calibrated_l0 is None else sae.with_threshold(0.7)
    return ready.requires_grad_(False)


@pytest.fixture(scope="session")
def trained() -> Callable[..., SAE]:
    """Make an SAE of a kind, with fields of its config, all of whose weights say something."""
    return _trained


@pytest.fixture
def tokens() -> torch.Tensor:
    """50 rows of width 16."""
    return torch.randn(50, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def run_libraries() -> Callable[..., None]:
    """Run a task of libraries.py, or of another script, in the other libraries' environment.

    Skips where there is none.

    Its python is named by SAETOOLS_PEERS_PYTHON, or is that of `.venv-peers`, which `make peers`
    builds.
    """
    python = Path(os.environ.get(VARIABLE) or ROOT / ".venv-peers" / "bin" / "python")
    if not python.exists():
        pytest.skip(
            f"needs an environment with sae-lens, dictionary-learning or eai-sparsify: `make peers`"
            f" builds one, or name its python in {VARIABLE}"
        )

    def run(task: str, folder: Path, *, script: str = "libraries.py") -> None:
        alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            [python, "-P", Path(__file__).with_name(script), task, folder],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=alone | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"},
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run
