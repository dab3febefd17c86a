"""Every architecture in the registry keeps every promise, and so can a stranger's."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from saetools.sae import ARCHS
from saetools.testing import check_sae

VARIANTS = [
    ("topk", {"multi": True}),
    ("matryoshka", {"selection": "topk"}),
    ("matryoshka", {"prefixes": "sampled", "n_prefixes": 3, "aux": "levels"}),
    ("matryoshka", {"widths": (8, 64), "level_weights": (3.0, 1.0)}),
    ("hierarchical_topk", {"ranks": "all"}),
    ("standard", {"widths": (4, 16, 64), "target_l0": None}),
    ("transcoder", {"d_out": 20, "target_hook_name": "blocks.0.hook_mlp_out"}),
    ("transcoder", {"d_out": 30, "selection": "batch_topk", "skip": True}),
    ("transcoder", {"d_out": 20, "selection": "batch_topk", "thresholds": "per_latent"}),
]


@pytest.mark.parametrize("name", ARCHS.names())
def test_architecture_conforms(name: str, tmp_path: Path) -> None:
    check_sae(name, folder=tmp_path)


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=lambda value: str(value))
def test_its_options_conform_as_well(name: str, fields: dict[str, object], tmp_path: Path) -> None:
    check_sae(name, folder=tmp_path, **fields)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    for name in ("absolute_topk", "broken"):
        ARCHS._table.pop(name, None)


def test_a_strangers_architecture_in_a_file_of_its_own_conforms(tmp_path: Path) -> None:
    _load("absolute_topk")
    check_sae("absolute_topk", folder=tmp_path)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("writes", "encode, decode and loss leave b_enc alone"),
        ("neighbours", "encode of a token ignores its neighbours"),
        ("negative", "latents are not negative"),
        ("gradient", r"gradients\(\) gives the gradient of loss\(\) by W_dec"),
        ("unfolded", "folding keeps x_hat"),
        ("norms", "decoder rows have unit norm, or unit_norm_decoder is False"),
        ("dense", "encode returns SparseLatents"),
    ],
)
def test_a_broken_architecture_is_told_what_it_breaks(
    fault: str, sentence: str, tmp_path: Path
) -> None:
    _load("broken")
    with pytest.raises(AssertionError, match=sentence):
        check_sae("broken", folder=tmp_path, fault=fault)


def _load(name: str) -> ModuleType:
    """Import a file beside the tests, as a notebook or a script would be."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"own_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
