"""Sparse products for sparse autoencoders: Triton kernels, fast plain-torch paths, references.

The ops know tensors and nothing of SAEs. Each has a folder with its reference beside it; the
functions here are differentiable, `saetools_kernels.raw` has the same without autograd.

    sparse_decode    weighted sums of k decoder rows a token
    bag_decode       the same with any number of rows a bag
    row_scatter_add  weighted rows added up by latent: the gradient of both weight matrices
    prefix_loss      squared errors of nested reconstructions, all levels in one pass
    aux_decode       AuxK: the k largest of a few listed latents, decoded
    gathered_dots    one dot product an entry: the gradient of the activations
    topk_rows        the k largest of every row
    batch_topk       the k·n largest of a batch
    threshold_rows   everything above a threshold of its own column

`available()` says whether Triton can run here; `use_implementation` chooses by name. Importing
this package does not import Triton.
"""

from saetools_kernels import raw
from saetools_kernels._dispatch import Availability, Implementation, available, use_implementation
from saetools_kernels._errors import KernelInputError, KernelUnavailableError
from saetools_kernels.gradients import (
    PrefixLoss,
    aux_decode,
    bag_decode,
    batch_topk,
    gathered_dots,
    prefix_loss,
    row_scatter_add,
    sparse_decode,
    threshold_rows,
    topk_rows,
)
from saetools_kernels.prefix_decode import PrefixDecode
from saetools_kernels.row_scatter_add import LatentOrder
from saetools_kernels.threshold_rows import Entries
from saetools_kernels.topk_rows import TopK

__all__ = [
    "Availability",
    "Entries",
    "Implementation",
    "KernelInputError",
    "KernelUnavailableError",
    "LatentOrder",
    "PrefixDecode",
    "PrefixLoss",
    "TopK",
    "aux_decode",
    "available",
    "bag_decode",
    "batch_topk",
    "gathered_dots",
    "prefix_loss",
    "raw",
    "row_scatter_add",
    "sparse_decode",
    "threshold_rows",
    "topk_rows",
    "use_implementation",
]
