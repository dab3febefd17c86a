"""The ops without autograd, for code that writes its own backward pass; each takes `out=`.

Reusing output buffers matters on a CPU, where fresh pages cost as much as the sums. One
`order_by_latent` serves the gradients of both weight matrices of a step:

    order = raw.order_by_latent(indices, n_latents)
    raw.scatter_ordered(values, rows, order, residual, out=grad_W_dec)
    raw.scatter_ordered(grad_values, rows, order, x, out=grad_W_enc)
"""

from saetools_kernels.batch_topk import batch_topk_forward as batch_topk
from saetools_kernels.fused_sparse_adam import (
    AdamSettings,
    RowGradient,
    RowSums,
    SomeRows,
    fused_sparse_adam,
    gradient_squared_norm,
    row_sums,
)
from saetools_kernels.gathered_dots import gathered_dots_forward as gathered_dots
from saetools_kernels.prefix_decode import PrefixDecode
from saetools_kernels.prefix_decode import prefix_decode_forward as prefix_decode
from saetools_kernels.prefix_decode.cpu import residual_sums
from saetools_kernels.row_scatter_add import (
    LatentOrder,
    order_by_latent,
    scatter_ordered,
    sum_ordered,
)
from saetools_kernels.row_scatter_add import row_scatter_add_forward as row_scatter_add
from saetools_kernels.sparse_decode import bag_decode_forward as bag_decode
from saetools_kernels.sparse_decode import sparse_decode_forward as sparse_decode
from saetools_kernels.threshold_rows import Entries
from saetools_kernels.threshold_rows import threshold_rows_forward as threshold_rows
from saetools_kernels.topk_rows import TopK
from saetools_kernels.topk_rows import topk_merge_forward as topk_merge
from saetools_kernels.topk_rows import topk_rows_forward as topk_rows

__all__ = [
    "AdamSettings",
    "Entries",
    "LatentOrder",
    "PrefixDecode",
    "RowGradient",
    "RowSums",
    "SomeRows",
    "TopK",
    "bag_decode",
    "batch_topk",
    "fused_sparse_adam",
    "gathered_dots",
    "gradient_squared_norm",
    "order_by_latent",
    "prefix_decode",
    "residual_sums",
    "row_scatter_add",
    "row_sums",
    "scatter_ordered",
    "sparse_decode",
    "sum_ordered",
    "threshold_rows",
    "topk_merge",
    "topk_rows",
]
