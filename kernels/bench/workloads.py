"""What is measured at a shape: each op and the whole step, ours beside plain eager PyTorch.

Inputs are drawn on the device, since the tests' inputs would take minutes at these sizes. `eager`
is what one writes without this package: where an op's reference would be slow for no reason (a full
sort to select), it is the ordinary call instead. It is also what torch.compile is given.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import saetools_kernels as kernels
from bench.steps import dense_loss, dense_step, fresh_state, our_step
from saetools_kernels import raw
from saetools_kernels.spec import Case, all_specs

__all__ = ["CPU_SHAPES", "GPU_SHAPES", "NAMES", "Shape", "Workload", "build"]

Call = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """Tokens, width of a row, latents, active latents a token."""

    n: int
    d: int
    n_latents: int
    k: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Five Matryoshka prefixes: 1/16, 1/8, 1/4, 1/2 and all of the latents."""
        return tuple(self.n_latents // part for part in (16, 8, 4, 2, 1))


GPU_SHAPES = (
    Shape(8192, 768, 24576, 32),
    Shape(8192, 2304, 65536, 64),
    Shape(8192, 4096, 131072, 64),
)
CPU_SHAPES = (
    Shape(4096, 384, 3072, 24),
    Shape(4096, 512, 8192, 32),
    Shape(2048, 768, 24576, 32),
)


@dataclass(frozen=True)
class Workload:
    """One thing to measure.

    Args:
        name: of the op, "encoder_product", "step_topk" or "step_matryoshka".
        ours: the call in this package.
        eager: the same in plain PyTorch, called with `arguments`.
        arguments: of `eager`.
        compiled: makes the compiled form of `eager` a call without arguments.
        agrees: raises AssertionError unless both give the same; run before anything is timed.
        n_bytes: bytes that have to move, 0 where no bound is given.
        n_flops: operations that have to be done.
    """

    name: str
    ours: Call
    eager: Callable[..., Any]
    arguments: tuple[Any, ...]
    agrees: Call
    n_bytes: int
    n_flops: int
    compiled: Call | None = None


def build(name: str, shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Workload:
    """Draw the inputs of one workload."""
    torch.manual_seed(0)
    return _BUILDERS[name](shape, device, dtype)


def _drawn(shape: Shape, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    n, d, n_latents, k = shape.n, shape.d, shape.n_latents, shape.k
    indices = torch.randint(n_latents, (n, k), device=device).sort(1).values
    return {
        "x": torch.randn(n, d, device=device, dtype=dtype),
        "W": torch.randn(n_latents, d, device=device).div_(d**0.5).to(dtype),
        "values": torch.rand(n, k, device=device, dtype=dtype),
        "indices": indices,
        "rows": torch.arange(n, device=device).repeat_interleave(k),
    }


def _bounds(bags: Tensor, n_bags: int) -> Tensor:
    return torch.searchsorted(bags, torch.arange(n_bags + 1, device=bags.device))


def _op(
    name: str, shape: Shape, dtype: torch.dtype, ours: Call, eager: Callable[..., Any], *args: Any
) -> Workload:
    case = Case("bench", n=shape.n, d=shape.d, n_latents=shape.n_latents, k=shape.k)
    n_bytes = all_specs()[name].n_bytes(case, dtype.itemsize)
    n_flops = 0 if "top" in name or "thr" in name else 2 * shape.n * shape.k * shape.d
    return Workload(
        name, ours, eager, args, lambda: _compare(ours(), eager(*args), dtype), n_bytes, n_flops
    )


def _compare(found: Any, wanted: Any, dtype: torch.dtype) -> None:
    """Require the same numbers up to the rounding of the dtype, relative to the largest of them."""
    pairs = zip(_tensors(found), _tensors(wanted), strict=True)
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape, f"shapes {ours.shape} and {theirs.shape}"
        if ours.numel():
            scale = float(theirs.double().abs().max())
            error = float((ours.double() - theirs.double()).abs().max())
            allowed = 64 * torch.finfo(dtype).eps * scale
            assert error <= allowed, f"they differ by {error:.3g}, allowed is {allowed:.3g}"


def _tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def _product(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    out = torch.empty(shape.n, shape.n_latents, device=device, dtype=dtype)
    call = lambda: torch.mm(t["x"], t["W"].T, out=out)  # noqa: E731
    n_bytes = dtype.itemsize * (t["x"].numel() + t["W"].numel() + out.numel())
    n_flops = 2 * shape.n * shape.d * shape.n_latents
    return Workload("encoder_product", call, call, (), lambda: None, n_bytes, n_flops)


def _sparse_decode(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    args = (t["values"], t["indices"], t["W"])
    reference = all_specs()["sparse_decode"].reference
    return _op("sparse_decode", shape, dtype, lambda: raw.sparse_decode(*args), reference, *args)


def _bag_decode(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    cuts = torch.randint(len(t["rows"]) + 1, (shape.n - 1,), device=device).sort().values
    ends = [torch.zeros_like(cuts[:1]), cuts, torch.full_like(cuts[:1], len(t["rows"]))]
    args = (t["values"].flatten(), t["indices"].flatten(), torch.cat(ends), t["W"])
    reference = all_specs()["bag_decode"].reference
    return _op("bag_decode", shape, dtype, lambda: raw.bag_decode(*args), reference, *args)


def _row_scatter_add(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    args = (t["values"].flatten(), t["rows"], t["indices"].flatten(), t["x"], shape.n_latents)
    reference = all_specs()["row_scatter_add"].reference
    ours = lambda: raw.row_scatter_add(*args)  # noqa: E731
    return _op("row_scatter_add", shape, dtype, ours, reference, *args)


def _gathered_dots(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    args = (t["x"], t["W"], t["rows"], t["indices"].flatten())
    reference = all_specs()["gathered_dots"].reference
    return _op("gathered_dots", shape, dtype, lambda: raw.gathered_dots(*args), reference, *args)


def _topk_rows(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    x = t["x"] @ t["W"].T
    ours = lambda: raw.topk_rows(x, shape.k)  # noqa: E731
    work = _op("topk_rows", shape, dtype, ours, _eager_topk, x, shape.k)
    ascending = lambda: _compare(  # noqa: E731
        ours().values.sort(1).values, _eager_topk(x, shape.k)[0].sort(1).values, dtype
    )
    return Workload(**{**vars(work), "agrees": ascending})


def _eager_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    top = torch.topk(x, k, dim=1, sorted=False)
    return top.values, top.indices


def _batch_topk(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    x = t["x"] @ t["W"].T
    ours = lambda: raw.batch_topk(x, shape.k)  # noqa: E731
    work = _op("batch_topk", shape, dtype, ours, _eager_batch_topk, x, shape.k)
    ascending = lambda: _compare(  # noqa: E731
        ours().values.sort().values, _eager_batch_topk(x, shape.k)[0].sort().values, dtype
    )
    return Workload(**{**vars(work), "agrees": ascending})


def _eager_batch_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    chosen = torch.topk(x.flatten(), k * len(x), sorted=False).indices.sort().values
    rows, latents = chosen // x.shape[1], chosen % x.shape[1]
    return x[rows, latents], rows, latents


def _threshold_rows(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    x = t["x"] @ t["W"].T
    sample = x.flatten()[: 2**20].float()  # about k a row pass
    rank = int(len(sample) * (1 - shape.k / shape.n_latents))
    level = sample.kthvalue(max(1, rank)).values.to(dtype)
    args = (x, level.expand(shape.n_latents).contiguous())
    reference = all_specs()["threshold_rows"].reference
    return _op("threshold_rows", shape, dtype, lambda: raw.threshold_rows(*args), reference, *args)


def _prefix_decode(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t, n_levels = _drawn(shape, device, dtype), len(shape.widths)
    edges = torch.tensor(shape.widths[:-1], device=device)
    level = torch.bucketize(t["indices"], edges, right=True)
    bags = level + n_levels * torch.arange(shape.n, device=device).unsqueeze(1)
    weights = torch.full((n_levels,), 1 / n_levels, device=device)
    bounds = _bounds(bags.flatten(), shape.n * n_levels)
    args = (t["values"].flatten(), t["indices"].flatten(), bounds, t["W"], t["x"], weights)
    reference = all_specs()["prefix_decode"].reference
    return _op("prefix_decode", shape, dtype, lambda: raw.prefix_decode(*args), reference, *args)


def _fused_sparse_adam(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    order = raw.order_by_latent(t["indices"], shape.n_latents)
    gradient = raw.RowGradient((raw.row_sums(t["values"].flatten(), t["rows"], order, t["x"]),))
    settings = raw.AdamSettings(1e-3, 3, unit_rows=True)
    W = torch.nn.functional.normalize(t["W"].float(), dim=1)
    start = (W, torch.randn_like(W), torch.rand_like(W) + 0.1)
    ours, theirs = ([part.clone() for part in start] for _ in range(2))
    dense = (t["values"].flatten(), t["rows"], t["indices"].flatten(), t["x"])

    def agrees() -> None:
        raw.fused_sparse_adam(*ours, gradient, settings)
        _eager_adam(*theirs, *dense)
        _compare(ours, theirs, dtype)

    work = _op(
        "fused_sparse_adam",
        shape,
        dtype,
        lambda: raw.fused_sparse_adam(*ours, gradient, settings),
        _eager_adam,
        *theirs,
        *dense,
    )
    return Workload(**{**vars(work), "agrees": agrees})


@torch.no_grad()
def _eager_adam(
    W: Tensor, m: Tensor, v: Tensor, values: Tensor, rows: Tensor, latents: Tensor, x: Tensor
) -> None:
    """Write the gradient out, project, step in place, renormalise."""
    grad = torch.zeros_like(W).index_add(0, latents, (values.unsqueeze(1) * x[rows]).float())
    grad = grad - (grad * W).sum(1, keepdim=True) * W
    m.lerp_(grad, 0.1)
    v.mul_(0.999).addcmul_(grad, grad, value=1 - 0.999)
    W.addcdiv_(m, (v / (1 - 0.999**3)).sqrt_().add_(1e-8), value=-1e-3 / (1 - 0.9**3))
    W.div_(W.norm(dim=1, keepdim=True))


def _aux_decode(shape: Shape, device: torch.device, dtype: torch.dtype) -> Workload:
    t = _drawn(shape, device, dtype)
    bias = torch.zeros(shape.n_latents, device=device, dtype=dtype)
    dead = torch.randperm(shape.n_latents, device=device)[: shape.n_latents // 16]
    args = (t["x"], t["W"], bias, t["W"], dead, shape.k)
    reference = all_specs()["aux_decode"].reference
    ours = lambda: kernels.aux_decode(*args)  # noqa: E731

    def agrees() -> None:
        """Compare as a whole: where two latents are equal up to rounding, either may be chosen."""
        found, wanted = ours().float(), reference(*args).float()
        error = float((found - wanted).norm() / wanted.norm())
        assert error <= 0.02, f"relative error {error:.3g}"

    work = _op("aux_decode", shape, dtype, ours, reference, *args)
    return Workload(**{**vars(work), "agrees": agrees})


def _step(name: str, shape: Shape, device: torch.device, widths: tuple[int, ...]) -> Workload:
    """A step of each kind; they take turns on one state, since three would not fit a GPU."""
    x = torch.randn(shape.n, shape.d, device=device)
    fixed: dict[str, Any] = {"k": shape.k, "widths": widths}
    edges = torch.tensor(widths[:-1], device=device)
    fresh = lambda: fresh_state(shape.d, shape.n_latents, device=device)  # noqa: E731

    def agrees() -> None:
        tolerance = 0.03 if device.type == "cuda" else 1e-4
        ours, eager = fresh(), fresh()
        for _ in range(3):
            found = float(our_step(ours, x, edges=edges, **fixed))
            wanted = float(dense_step(eager, x, **fixed))
            assert abs(found - wanted) <= tolerance * wanted, f"losses {found} and {wanted}"

    state = functools.cache(fresh)
    return Workload(
        name,
        lambda: our_step(state(), x, edges=edges, **fixed),
        lambda: dense_step(state(), x, **fixed),
        (),
        agrees,
        0,
        2 * shape.n * shape.d * shape.n_latents,
        compiled=lambda: dense_step(state(), x, **fixed, loss_of=_compiled_loss()),
    )


@functools.cache
def _compiled_loss() -> Callable[..., Tensor]:
    return torch.compile(dense_loss, dynamic=False)


_BUILDERS: dict[str, Callable[[Shape, torch.device, torch.dtype], Workload]] = {
    "encoder_product": _product,
    "sparse_decode": _sparse_decode,
    "bag_decode": _bag_decode,
    "row_scatter_add": _row_scatter_add,
    "gathered_dots": _gathered_dots,
    "topk_rows": _topk_rows,
    "batch_topk": _batch_topk,
    "threshold_rows": _threshold_rows,
    "prefix_decode": _prefix_decode,
    "fused_sparse_adam": _fused_sparse_adam,
    "aux_decode": _aux_decode,
    "step_topk": lambda shape, device, _: _step("step_topk", shape, device, (shape.n_latents,)),
    "step_matryoshka": lambda shape, device, _: _step(
        "step_matryoshka", shape, device, shape.widths
    ),
}
NAMES = tuple(_BUILDERS)
