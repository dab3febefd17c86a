"""The real libraries: what they train and save gives their outputs here, and ours gives ours there.

They run in an environment of their own (see `run_libraries`); these tests skip without one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from saetools.sae import SAE

FORMATS = {"sae_lens": "saelens"}

THEIRS = {
    "sae_lens": {
        "standard": "standard",
        "not_centred": "standard",
        "scaled": "standard",
        "layer_norm": "topk",
        "gated": "gated",
        "topk": "topk",
        "topk_rescaled": "topk",
        "jumprelu": "jumprelu",
        "batchtopk": "jumprelu",
        "matryoshka": "jumprelu",
    },
    "dictionary_learning": {
        "standard": "standard",
        "april": "standard",
        "april_class": "standard",
        "gated": "gated",
        "topk": "topk",
        "batchtopk": "batch_topk",
        "batchtopk_without_threshold": "batch_topk",
        "matryoshka": "matryoshka",
        "jumprelu": "jumprelu",
    },
    "sparsify": {
        "layers.2": "topk",
        "layers.3": "topk",
        "layers.4": "transcoder",
        "layers.2.mlp": "transcoder",
        "h.3.mlp": "transcoder",
    },
}

_BY_BATCH = {"k": 4, "selection": "batch_topk"}
OURS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "sae_lens": {
        "standard": ("standard", {}),
        "topk": ("topk", {"k": 4}),
        "hierarchical_topk": ("hierarchical_topk", {"k": 4}),
        "batch_topk": ("batch_topk", {"k": 4}),
        "matryoshka": ("matryoshka", {"k": 4}),
        "jumprelu": ("jumprelu", {"target_l0": 4.0}),
        "gated": ("gated", {}),
        "transcoder": ("transcoder", {**_BY_BATCH, "d_out": 12}),
        "transcoder_skip": ("transcoder", {**_BY_BATCH, "d_out": 12, "skip": True}),
    },
    "dictionary_learning": {
        "standard": ("standard", {}),
        "topk": ("topk", {"k": 4}),
        "batch_topk": ("batch_topk", {"k": 4}),
        "matryoshka": ("matryoshka", {"k": 4}),
        "matryoshka_by_token": ("matryoshka", {"k": 4, "selection": "topk"}),
        "jumprelu": ("jumprelu", {"target_l0": 4.0}),
        "gated": ("gated", {}),
    },
    "sparsify": {
        "layers.3": ("topk", {"k": 4}),
        "layers.3.mlp": ("transcoder", {"k": 4, "target_hook_name": "mlp_out.3"}),
        "layers.4.mlp": ("transcoder", {"k": 4, "skip": True}),
    },
}


@pytest.fixture(scope="session")
def x() -> torch.Tensor:
    return torch.randn(200, 16, generator=torch.Generator().manual_seed(7)) + 0.3


@pytest.fixture(scope="session")
def theirs(
    run_libraries: Callable[[str, Path], None],
    x: torch.Tensor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """SAEs that the other libraries trained and saved, and their outputs on x."""
    folder = tmp_path_factory.mktemp("theirs")
    torch.save(x, folder / "x.pt")
    run_libraries("train", folder)
    return folder


@pytest.fixture(scope="session")
def ours(
    run_libraries: Callable[[str, Path], None],
    trained: Callable[..., SAE],
    x: torch.Tensor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """SAEs of ours in the other libraries' formats, and what those make of x."""
    folder = tmp_path_factory.mktemp("ours")
    torch.save(x, folder / "x.pt")
    for library, cases in OURS.items():
        (folder / library).mkdir()
        for name, (kind, fields) in cases.items():
            sae = trained(kind, **fields)
            sae.save(folder / library / name, format=FORMATS.get(library, library))
    run_libraries("read", folder)
    return folder


@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library in THEIRS for name in THEIRS[library]]
)
def test_what_they_train_gives_their_outputs_here(
    library: str, name: str, theirs: Path, x: torch.Tensor
) -> None:
    latents, x_hat = _outputs(theirs, library, name)
    sae = SAE.load(theirs / library / name)
    assert sae.config.type == THEIRS[library][name]
    assert torch.allclose(sae(x), x_hat, atol=2e-5)
    found = sae.encode(x).dense()
    if name == "layer_norm":
        found = found / x.std(1, keepdim=True)
    assert torch.allclose(found, latents, atol=2e-5)
    assert float((latents > 0).sum(1).float().mean()) > 1, "latents fire, so this says something"


@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library in OURS for name in OURS[library]]
)
def test_what_we_write_gives_our_outputs_there(
    library: str, name: str, ours: Path, x: torch.Tensor, trained: Callable[..., SAE]
) -> None:
    latents, x_hat = _outputs(ours, library, name)
    kind, fields = OURS[library][name]
    sae = trained(kind, **fields)
    assert torch.allclose(x_hat, sae(x), atol=2e-5)
    assert torch.allclose(latents, sae.encode(x).dense(), atol=2e-5)
    assert float((latents > 0).sum(1).float().mean()) > 1, "latents fire, so this says something"


def test_a_normalised_sae_of_theirs_goes_back_to_them(
    theirs: Path,
    x: torch.Tensor,
    run_libraries: Callable[[str, Path], None],
    tmp_path: Path,
) -> None:
    _, x_hat = _outputs(theirs, "sae_lens", "layer_norm")
    torch.save(x, tmp_path / "x.pt")
    (tmp_path / "sae_lens").mkdir()
    sae = SAE.load(theirs / "sae_lens" / "layer_norm")
    sae.save(tmp_path / "sae_lens" / "back", format="saelens")
    run_libraries("read", tmp_path)
    assert torch.allclose(_outputs(tmp_path, "sae_lens", "back")[1], x_hat, atol=2e-5)


def _outputs(folder: Path, library: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Their latents and reconstruction of x; skips where the library is not in the environment."""
    path = folder / library / f"{name}.out.pt"
    if not path.exists():
        pytest.skip(f"the environment of the other libraries has no {library}")
    found = torch.load(path, weights_only=True)
    return found["latents"], found["x_hat"]
