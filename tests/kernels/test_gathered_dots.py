"""What is special to gathered dot products: patterns that torch's sampled product mistreats."""

import pytest
import torch

from saetools_kernels import gathered_dots
from saetools_kernels.gathered_dots import cpu


@pytest.mark.parametrize(("n", "n_entries"), [(1, 5), (1, 4), (10, 5), (3, 7)])
def test_more_entries_in_a_row_than_there_are_latents(n: int, n_entries: int) -> None:
    g, W = torch.arange(3.0 * n).view(n, 3), torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
    rows, latents = torch.zeros(n_entries, dtype=torch.int64), torch.arange(n_entries) % 2
    assert torch.equal(gathered_dots(g, W, rows, latents), (g @ W.T)[0, latents])


def test_rows_in_any_order_give_each_entry_its_own_product() -> None:
    g, W = torch.eye(4), torch.arange(20.0).view(5, 4)
    rows, latents = torch.tensor([3, 0, 3, 1, 0]), torch.tensor([4, 0, 1, 2, 3])
    assert torch.equal(gathered_dots(g, W, rows, latents), W[latents, rows])


def test_pieces_give_the_same_as_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    g, W = torch.randn(9, 8, generator=generator), torch.randn(11, 8, generator=generator)
    rows = torch.randint(0, 9, (50,), generator=generator)
    latents = torch.randint(0, 11, (50,), generator=generator)
    whole = gathered_dots(g, W, rows, latents)
    monkeypatch.setattr(cpu, "_PIECE_BYTES", 7 * 2 * 8 * 4)  # seven entries at a time
    pieces = cpu._in_pieces(g, W, rows, latents)
    torch.testing.assert_close(pieces, whole)
