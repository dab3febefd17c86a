"""Many processes train what one would: sharing rows or latents, stopped, killed, in any number."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saetools.errors import ShapeError
from saetools.sae import ARCHS, SAE, build_sae
from saetools.sae.selection import among_largest
from saetools.sae.sharing import ALONE, Ranks
from saetools.sae.slices import hollow, joined_slices, slice_of
from saetools.store import ActivationStore
from saetools.train import read_metrics

NAMES = ("topk", "batch_topk", "matryoshka")
MODES = ("data", "latents")
REFUSED = ("topk multi", "hierarchical_topk", "jumprelu", "gated", "standard")  # slices
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, store_in: Callable[..., ActivationStore]
) -> Path:
    """What one, two and three processes trained."""
    folder = tmp_path_factory.mktemp("parallel")
    x = torch.randn(3200, 16, generator=torch.Generator().manual_seed(0))
    with store_in(folder, x) as store:
        path = store.path
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("parallel_runs.py")), str(path), str(folder)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _load(folder: Path, name: str) -> dict[str, Tensor]:
    held: dict[str, Tensor] = torch.load(folder / f"{name}.pt")
    return held


def _assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, atol=2e-5, rtol=2e-5, msg=name)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_many_processes_end_with_the_weights_of_one(
    name: str, mode: str, size: int, folder: Path
) -> None:
    alone = _load(folder, name)
    _assert_close(_load(folder, f"{name}-{mode}-{size}.0"), alone)
    rows = read_metrics(folder / f"{name}-1" / "metrics.jsonl")
    assert max(row["dead_fraction"] for row in rows) > 0.02, "AuxK had something to do"
    others = read_metrics(folder / f"{name}-{mode}-{size}" / "metrics.jsonl")
    for one, many in zip(rows, others, strict=True):
        assert one["dead_fraction"] == many["dead_fraction"]
        assert one["fvu"] == pytest.approx(many["fvu"], rel=1e-4)
        assert one["l0"] == many["l0"]
    saved = SAE.load(folder / f"{name}-{mode}-{size}" / "sae")
    assert saved.config.n_latents == 499
    _assert_close(dict(saved.state_dict()), alone)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_sharing_rows_leaves_every_process_with_the_same_bits(
    name: str, size: int, folder: Path
) -> None:
    first = _load(folder, f"{name}-data-{size}.0")
    for rank in range(1, size):
        other = _load(folder, f"{name}-data-{size}.{rank}")
        assert all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", [*ARCHS.names(), "topk multi", "matryoshka levels", "matryoshka sampled"]
)
def test_loss_and_gradients_of_every_architecture_are_those_of_one_process(
    name: str, mode: str, size: int, folder: Path
) -> None:
    """In float64, so that nothing but the maths can differ; or refused with the way out."""
    alone = _load(folder, f"gradients-{name}-data-1.0")
    for rank in range(size):
        found = _load(folder, f"gradients-{name}-{mode}-{size}.{rank}")
        if mode == "latents" and name in REFUSED:
            (message,) = found
            assert name.split()[0] in message
            assert "train.parallel: data" in message
            continue
        assert found.keys() == alone.keys()
        for key, tensor in alone.items():
            torch.testing.assert_close(found[key], tensor, atol=1e-12, rtol=1e-9, msg=key)


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_of_many_processes_equals_an_uninterrupted_one_to_the_bit(
    mode: str, folder: Path
) -> None:
    whole, cut = _load(folder, f"matryoshka-{mode}-2.0"), _load(folder, f"cut-{mode}-2-2")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


@pytest.mark.parametrize("later", ["2-3", "3-1"])
@pytest.mark.parametrize("mode", MODES)
def test_another_number_of_processes_can_go_on(mode: str, later: str, folder: Path) -> None:
    _assert_close(_load(folder, f"cut-{mode}-{later}"), _load(folder, "matryoshka"))


def test_a_checkpoint_of_which_a_slice_is_missing_is_not_used(folder: Path) -> None:
    whole, half = _load(folder, "matryoshka-latents-2.0"), _load(folder, "half")
    assert all(torch.equal(whole[key], half[key]) for key in whole)


def test_checkpoints_are_gone_when_a_run_is_finished(folder: Path) -> None:
    for run in ("cut-latents-2-3", "cut-data-3-1", "half", "signalled"):
        assert (folder / run / "sae" / "config.json").exists()
        assert not list((folder / run).glob("checkpoint*"))


def test_a_signal_to_one_process_stops_all_after_the_same_step(folder: Path) -> None:
    told = [json.loads((folder / f"signalled.{rank}.json").read_text()) for rank in range(2)]
    assert all("after step 5 of 24; run it again to go on" in text for text in told)
    whole, later = _load(folder, "topk-latents-2.0"), _load(folder, "signalled")
    assert all(torch.equal(whole[key], later[key]) for key in whole)


def test_the_end_of_one_process_ends_the_others_soon(folder: Path) -> None:
    told = json.loads((folder / "failing.json").read_text())
    assert "another process of this run ended" in told["error"]
    assert told["seconds"] < 60


def test_memory_of_a_process_falls_with_their_number_when_latents_are_shared(folder: Path) -> None:
    def of(size: int, key: str) -> int:
        return max(
            int(json.loads((folder / f"memory-{size}.{rank}.json").read_text())[key])
            for rank in range(size)
        )

    for size in (2, 3):
        assert of(size, "held") < 1.02 * of(1, "held") / size, "weights and moments"
        assert of(size, "largest") < 1.1 * of(1, "largest") / size, "the largest tensor of a step"


def test_what_cannot_work_together_is_refused_by_all(folder: Path) -> None:
    for rank in range(2):
        small, apart = json.loads((folder / f"refused.{rank}.json").read_text())
        assert "shares 1 latents among 2 processes" in small
        assert "folder that all of them see" in apart


def test_an_sae_is_the_sum_of_its_slices() -> None:
    class Part(Ranks):
        def __init__(self, rank: int) -> None:
            self.rank, self.size = rank, 3

    sae = build_sae("topk", d_in=4, n_latents=11, k=2)
    parts = [slice_of(sae, Part(rank)) for rank in range(3)]
    for name in sae.by_latent:
        rows = torch.cat([part.state_dict()[name] for part in parts])
        assert torch.equal(rows, sae.state_dict()[name])
    assert max(len(part.W_dec) for part in parts) - min(len(part.W_dec) for part in parts) <= 1
    assert {name: t.shape for name, t in hollow(parts[1]).state_dict().items()} == {
        name: t.shape for name, t in sae.state_dict().items()
    }
    assert joined_slices(sae, ALONE) is sae


@pytest.mark.parametrize("name", NAMES)
def test_an_sae_built_as_a_part_has_the_numbers_of_the_whole(name: str) -> None:
    whole = build_sae(name, d_in=3, n_latents=9001, k=2, seed=4)
    parts = [build_sae(name, d_in=3, n_latents=9001, k=2, seed=4, part=(r, 3)) for r in range(3)]
    for key in whole.by_latent:
        assert max(len(part.state_dict()[key]) for part in parts) == 3001
        rows = torch.cat([part.state_dict()[key] for part in parts])
        assert torch.equal(rows, whole.state_dict()[key])

    class Half(Ranks):
        rank, size = 0, 2

    with pytest.raises(ShapeError, match=r"part=\(0, 2\)"):
        slice_of(parts[0], Half())


def test_a_tie_between_processes_is_won_by_the_lowest_latent() -> None:
    every = torch.tensor([[3.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 0.5]])  # (latent, token)

    class Half(Ranks):
        """The second of two processes, each with two latents."""

        rank, size = 1, 2

        def gather(self, x: Tensor) -> Tensor:
            return torch.tensor([2, 2]) if x.ndim == 1 else every

        def total(self, n: int) -> int:
            return 2 * n

    kept = among_largest(every[2:].T.contiguous(), 2, Half())
    assert kept.tolist() == [[False, False], [False, False]]
    kept = among_largest(every[2:].T.contiguous(), 3, Half())
    assert kept.tolist() == [[True, False], [True, False]]
