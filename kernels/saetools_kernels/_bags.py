"""The one sum behind decoding and scattering on the torch path: weighted sums of table rows.

    out[b] = Σ_j values[j] · table[columns[j]]        for j in offsets[b] .. offsets[b + 1]

The entries of bag b lie next to each other, so the whole is a CSR matrix times a dense one. MKL
has that product for CPUs; elsewhere `embedding_bag` computes the same sum.
"""

import functools
import warnings

import torch
from torch import Tensor
from torch.nn import functional

from saetools_kernels._checks import accumulator_dtype

__all__ = ["bag_sum", "csr_matrix", "has_sparse_blas"]

_INT32_MAX = 2**31 - 1


def bag_sum(
    values: Tensor, columns: Tensor, offsets: Tensor, table: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """Return the weighted sum of table rows of each bag.

    Args:
        values: weights, shape (nnz,).
        columns: table row of each weight, shape (nnz,).
        offsets: where each bag begins and the last one ends, shape (n_bags + 1,).
        table: rows to add up, shape (n_rows, d).
        out: buffer of shape (n_bags, d) and the table's dtype; reusing one saves page faults,
            which cost as much as the sum itself on a CPU.
    """
    n_bags, d = len(offsets) - 1, table.shape[1]
    if out is None:
        out = table.new_empty(n_bags, d)
    if values.numel() == 0 or out.numel() == 0:
        return out.zero_()
    dtype = accumulator_dtype(values, table)
    values, table = values.to(dtype), table.to(dtype)
    if has_sparse_blas(values, len(table)):
        matrix = csr_matrix(values, columns, offsets, n_columns=len(table))
        total = out if out.dtype == dtype else out.new_empty(out.shape, dtype=dtype)
        torch.addmm(total, matrix, table.contiguous(), beta=0, out=total)
    else:
        total = functional.embedding_bag(
            columns.long(),
            table,
            offsets.long(),
            per_sample_weights=values,
            mode="sum",
            include_last_offset=True,
        )
    return out if total is out else out.copy_(total)


def csr_matrix(values: Tensor, columns: Tensor, offsets: Tensor, *, n_columns: int) -> Tensor:
    """Return the sparse matrix of shape (n_bags, n_columns); 32-bit indices halve its traffic."""
    _announce_sparse_csr_once()
    return torch.sparse_csr_tensor(
        offsets.int(),
        columns.int(),
        values,
        (len(offsets) - 1, n_columns),
        check_invariants=False,
    )


def has_sparse_blas(values: Tensor, n_columns: int) -> bool:
    """Tell whether MKL's sparse products can take entries of this kind and number."""
    return (
        values.device.type == "cpu"
        and _mkl()
        and values.numel() <= _INT32_MAX
        and n_columns <= _INT32_MAX
    )


def _mkl() -> bool:
    return bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]  # torch's gap


@functools.cache
def _announce_sparse_csr_once() -> None:
    """Make the first CSR tensor of the process, on which torch says that CSR is a beta feature."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        start = torch.zeros(2, dtype=torch.int32)
        torch.sparse_csr_tensor(start, start[:0], torch.zeros(0), (1, 1), check_invariants=False)
