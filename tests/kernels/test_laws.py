"""Laws of the ops that hold for any input, checked with generated ones on the torch path."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saetools_kernels import bag_decode, gathered_dots, row_scatter_add, sparse_decode, topk_rows

quick = settings(max_examples=25, deadline=None)


@st.composite
def entries(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Values (n, k), indices (n, k) with repetitions, decoder (n_latents, d); float64."""
    n, k = draw(st.integers(0, 9)), draw(st.integers(1, 6))
    n_latents, d = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    values = torch.randn(n, k, generator=generator, dtype=torch.float64)
    indices = torch.randint(0, n_latents, (n, k), generator=generator)
    W = torch.randn(n_latents, d, generator=generator, dtype=torch.float64)
    return values, indices, W


def dense(values: Tensor, indices: Tensor, n_latents: int) -> Tensor:
    """The same activations as a full matrix (n, n_latents)."""
    out = values.new_zeros(len(values), n_latents)
    return out.scatter_add_(1, indices, values)


@quick
@given(entries())
def test_decode_equals_the_dense_product(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    values, indices, W = drawn
    torch.testing.assert_close(
        sparse_decode(values, indices, W), dense(values, indices, len(W)) @ W
    )


@quick
@given(entries(), st.floats(-3, 3))
def test_decode_is_linear_in_values(drawn: tuple[Tensor, Tensor, Tensor], factor: float) -> None:
    values, indices, W = drawn
    other = values.flip(0)
    mixed = sparse_decode(values + factor * other, indices, W)
    apart = sparse_decode(values, indices, W) + factor * sparse_decode(other, indices, W)
    torch.testing.assert_close(mixed, apart)


@quick
@given(entries(), st.randoms(use_true_random=False))
def test_order_of_a_token_s_latents_does_not_matter(drawn, random) -> None:
    values, indices, W = drawn
    order = list(range(values.shape[1]))
    random.shuffle(order)
    torch.testing.assert_close(
        sparse_decode(values[:, order], indices[:, order], W), sparse_decode(values, indices, W)
    )


@quick
@given(entries(), st.integers(0, 10**6))
def test_the_index_of_an_empty_slot_means_nothing(drawn, seed: int) -> None:
    values, indices, W = drawn
    generator = torch.Generator().manual_seed(seed)
    empty = torch.rand(values.shape, generator=generator) < 0.5
    values = values.masked_fill(empty, 0.0)
    elsewhere = torch.where(empty, len(W) - 1 - indices, indices)
    results, grads = [], []
    for chosen in (indices, elsewhere):
        leaf = W.clone().requires_grad_()
        result = sparse_decode(values, chosen, leaf)
        grads.append(torch.autograd.grad(result.square().sum(), leaf)[0])
        results.append(result.detach())
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(grads[0], grads[1])


@quick
@given(entries(), st.integers(1, 5))
def test_levels_as_bags_add_up_to_the_whole(drawn, n_levels: int) -> None:
    """Matryoshka: a token's latents cut into levels, one bag a level."""
    values, indices, W = drawn
    n = len(values)
    level = (indices * n_levels) // len(W)
    bag, order = (level + n_levels * torch.arange(n).unsqueeze(1)).flatten().sort(stable=True)
    offsets = torch.searchsorted(bag, torch.arange(n * n_levels + 1))
    parts = bag_decode(values.flatten()[order], indices.flatten()[order], offsets, W)
    whole = parts.view(n, n_levels, W.shape[1]).sum(1)
    torch.testing.assert_close(whole, sparse_decode(values, indices, W))


@quick
@given(entries())
def test_scatter_equals_the_transposed_dense_product(drawn) -> None:
    values, indices, W = drawn
    n, k = values.shape
    x = torch.linspace(-1, 1, n * 3, dtype=torch.float64).view(n, 3)
    rows = torch.arange(n).repeat_interleave(k)
    found = row_scatter_add(values.flatten(), rows, indices.flatten(), x, len(W))
    torch.testing.assert_close(found, dense(values, indices, len(W)).T @ x)


@quick
@given(entries())
def test_dots_are_entries_of_the_dense_product(drawn) -> None:
    values, indices, W = drawn
    n, k = values.shape
    g = torch.linspace(-1, 1, n * W.shape[1], dtype=torch.float64).view(n, W.shape[1])
    rows = torch.arange(n).repeat_interleave(k)
    found = gathered_dots(g, W, rows, indices.flatten())
    torch.testing.assert_close(found.view(n, k), (g @ W.T).gather(1, indices))


@quick
@given(
    st.integers(0, 5), st.integers(1, 700), st.integers(0, 12), st.booleans(), st.integers(0, 999)
)
def test_topk_is_exact_with_and_without_ties(
    n: int, n_latents: int, k: int, ties: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_latents, generator=generator)
    x = x.round() if ties else x
    k = min(k, n_latents)
    values, indices = topk_rows(x, k)
    assert torch.equal(x.gather(1, indices), values)
    assert all(len(set(row)) == k for row in indices.tolist())
    wanted = x.sort(1, descending=True).values[:, :k]
    assert torch.equal(values.sort(1, descending=True).values, wanted)
