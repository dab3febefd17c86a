"""The sparse pieces of an autoencoder: the only door to `saetools_kernels`.

Nothing here knows an architecture. A selection rule picks (token, latent) pairs; decoding turns
them back into activations; the gradients of both matrices are sums over the same pairs, and the
optimiser's step takes them as such. Every cost is proportional to the number of pairs.
"""

import csv
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

import saetools_kernels as kernels
from saetools.errors import KernelInputError, KernelUnavailableError
from saetools_kernels.fused_sparse_adam import (
    AdamSettings,
    RowGradient,
    SomeRows,
    fused_sparse_adam,
    gradient_squared_norm,
    row_sums,
)
from saetools_kernels.raw import residual_sums
from saetools_kernels.row_scatter_add import order_by_latent
from saetools_kernels.spec import all_specs

__all__ = [
    "AdamSettings",
    "KernelStatus",
    "RowGradient",
    "SomeRows",
    "adam_rows",
    "bag_decode",
    "bag_decode_into",
    "gathered_dots",
    "gradient_squared_norm",
    "kernel_bench_folder",
    "kernel_results",
    "kernel_status",
    "nested_decode",
    "order_by_latent",
    "residual_sums",
    "row_sums",
    "sparse_decode",
    "topk_rows",
    "use_kernels",
]

P = ParamSpec("P")
R = TypeVar("R")

use_kernels = kernels.use_implementation
"""Context manager that forces one implementation: "auto", "triton", "torch" or "reference"."""


class KernelStatus(NamedTuple):
    """One line of `saetools doctor`: what runs an operation here, and why."""

    op: str
    implementation: str
    reason: str


def _as_ours(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the kernels' own errors into saetools'."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except kernels.KernelInputError as error:
            raise KernelInputError(str(error)) from error
        except kernels.KernelUnavailableError as error:
            raise KernelUnavailableError(str(error)) from error

    return call


@_as_ours
def topk_rows(x: Float[Tensor, "n m"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The `k` largest entries of each row, by ascending column, and their columns; no gradient."""
    values, indices = kernels.topk_rows(x, k)
    return values, indices


@_as_ours
def sparse_decode(
    values: Float[Tensor, "n k"],
    indices: Int[Tensor, "n k"],
    weight: Float[Tensor, "n_latents d_in"],
) -> Float[Tensor, "n d_in"]:
    """Σ_j values[:, j] · weight[indices[:, j]], with gradients to values and weight."""
    out: Tensor = kernels.sparse_decode(values, indices, weight)
    return out


@_as_ours
def bag_decode(
    values: Float[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
    bounds: Int[Tensor, " bags1"],
    weight: Float[Tensor, "n_latents d_in"],
) -> Float[Tensor, "bags d_in"]:
    """One weighted sum of rows of `weight` for each stretch of the list that `bounds` marks."""
    out: Tensor = kernels.bag_decode(values, latents, bounds, weight)
    return out


@_as_ours
def bag_decode_into(
    values: Float[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
    bounds: Int[Tensor, " bags1"],
    weight: Float[Tensor, "n_latents d_in"],
    *,
    out: Float[Tensor, "bags d_in"],
) -> Float[Tensor, "bags d_in"]:
    """`bag_decode` without a gradient, into memory that is there."""
    return kernels.raw.bag_decode(values, latents, bounds, weight, out=out)


@_as_ours
def gathered_dots(
    x: Float[Tensor, "n d_in"],
    weight: Float[Tensor, "n_latents d_in"],
    rows: Int[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
) -> Float[Tensor, " nnz"]:
    """The product of x[rows[j]] with weight[latents[j]] for every entry, without a gradient."""
    return kernels.raw.gathered_dots(x, weight, rows, latents)


@_as_ours
def adam_rows(
    W: Float[Tensor, "n_latents d"],
    m: Float[Tensor, "n_latents d"],
    v: Float[Tensor, "n_latents d"],
    gradient: RowGradient,
    settings: AdamSettings,
) -> None:
    """One Adam step on a latent-major matrix, in place; its gradient is never written."""
    fused_sparse_adam(W, m, v, gradient, settings)


@_as_ours
def nested_decode(
    values: Float[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
    bounds: Int[Tensor, " bags1"],
    weight: Float[Tensor, "n_latents d_in"],
    target: Float[Tensor, "n d_in"],
    level_weights: Sequence[float],
    *,
    out_sources: Float[Tensor, "bags d_in"],
    out_residual: Float[Tensor, "n d_in"],
) -> kernels.raw.PrefixDecode:
    """Reconstructions at all levels and what their gradients need, in one gather."""
    return kernels.raw.prefix_decode(
        values,
        latents,
        bounds,
        weight,
        target,
        torch.tensor(level_weights, dtype=weight.dtype, device=weight.device),
        out_sources=out_sources,
        out_residual=out_residual,
    )


def kernel_status() -> list[KernelStatus]:
    """What runs each operation on this machine; for `saetools doctor`."""
    state = kernels.available()
    rows = []
    for spec in all_specs().values():
        if "triton" not in spec.implementations:
            rows.append(KernelStatus(spec.name, "torch", "it has no Triton kernel yet"))
        elif state.ok:
            rows.append(KernelStatus(spec.name, "triton", state.reason))
        else:
            rows.append(KernelStatus(spec.name, "torch", f"no Triton: {state.reason}"))
    return rows


def kernel_bench_folder() -> Path | None:
    """The folder in which `python -m bench.run` works; None where the package came as a wheel."""
    folder = Path(kernels.__file__).parents[1]
    return folder if (folder / "bench" / "run.py").is_file() else None


def kernel_results() -> list[dict[str, str]]:
    """Recorded rows of the kernels' benchmark, of every device that has a file beside it."""
    folder = kernel_bench_folder()
    rows: list[dict[str, str]] = []
    for path in sorted((folder / "bench" / "results").glob("*.csv")) if folder else []:
        with path.open(newline="", encoding="utf-8") as file:
            rows.extend(csv.DictReader(file))
    return rows
