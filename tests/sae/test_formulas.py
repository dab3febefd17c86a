"""The loss of every architecture and its gradients equal the card's formula, written densely.

None of our sparse operations, no chunk and no factored gradient is used on the right-hand side;
autograd in float64 differentiates it.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from saetools.sae import SAE, Objective, build_sae

Formula = Callable[[SAE, Tensor, Tensor, Tensor], Tensor]
D, F, N, K = 16, 48, 64, 5
VARIANCE = 16.0


def _pre_acts(sae: SAE, x: Tensor) -> Tensor:
    return (x - sae.b_dec) @ sae.W_enc + sae.b_enc


def _by_token(acts: Tensor, k: int) -> Tensor:
    top = acts.topk(k, dim=1)
    return torch.zeros_like(acts).scatter(1, top.indices, top.values.relu())


def _by_batch(acts: Tensor, k: int) -> Tensor:
    cut = acts.relu().flatten().topk(k * len(acts)).values[-1]
    return acts * (acts >= cut) * (acts > 0)


def _error(residual: Tensor) -> Tensor:
    return residual.square().sum() / (VARIANCE * len(residual))


def _aux(residual: Tensor, acts: Tensor, W_dec: Tensor, which: Tensor) -> Tensor:
    """AuxK over the latents in the mask `which`, over the variance of the residual."""
    residual = residual.detach()
    only = acts.masked_fill(~which, -torch.inf)
    latents = _by_token(only, min(D // 2, int(which.sum())))
    spread = (residual - residual.mean(0)).square().sum()
    return (residual - latents @ W_dec).square().sum() / spread


def _k_sparse(select: Callable[[Tensor], Tensor], widths: tuple[int, ...] = (F,)) -> Formula:
    def formula(sae: SAE, x: Tensor, y: Tensor, dead: Tensor) -> Tensor:
        acts = _pre_acts(sae, x)
        latents = select(acts)
        errors = [_error(y - latents[:, :w] @ sae.W_dec[:w] - sae.b_dec) for w in widths]
        residual = y - latents @ sae.W_dec - sae.b_dec
        return torch.stack(errors).mean() + _aux(residual, acts, sae.W_dec, dead) / 32

    return formula


def _multi_topk(sae: SAE, x: Tensor, y: Tensor, dead: Tensor) -> Tensor:
    acts = _pre_acts(sae, x)
    near, wide = (y - _by_token(acts, k) @ sae.W_dec - sae.b_dec for k in (K, 4 * K))
    return _error(near) + _error(wide) / 8 + _aux(near, acts, sae.W_dec, dead) / 32


def _hierarchical(ranks: tuple[int, ...]) -> Formula:
    def formula(sae: SAE, x: Tensor, y: Tensor, dead: Tensor) -> Tensor:
        acts = _pre_acts(sae, x)
        left = [y - _by_token(acts, j) @ sae.W_dec - sae.b_dec for j in ranks]
        errors = torch.stack([_error(r) for r in left])
        return errors.mean() + _aux(left[-1], acts, sae.W_dec, dead) / 32

    return formula


def _aux_by_level(sae: SAE, x: Tensor, y: Tensor, dead: Tensor) -> Tensor:
    acts, start = _pre_acts(sae, x), 0
    latents, total = _by_batch(acts, K), torch.zeros((), dtype=x.dtype)
    for width, weight in ((8, 0.5), (20, 0.25), (F, 0.25)):
        residual = y - latents[:, :width] @ sae.W_dec[:width] - sae.b_dec
        block = dead & (torch.arange(F) >= start) & (torch.arange(F) < width)
        aux = _aux(residual, acts, sae.W_dec, block)
        total, start = total + weight * (_error(residual) + aux / 32), width
    return total


def _jumprelu(sae: SAE, x: Tensor, y: Tensor, dead: Tensor) -> Tensor:
    acts, theta, eps = _pre_acts(sae, x), sae.get_parameter("threshold"), 0.4
    on = (acts > theta).double()
    near = ((acts - theta).abs() < eps / 2).double()
    held = theta.detach()
    # Values with the gradients that the card writes down.
    latents = acts * on - (theta - held) * held / eps * near
    l0 = (on - (theta - held) / eps * near).sum() / N
    short = ((theta - acts).relu() * dead) @ sae.W_dec.norm(dim=1)
    error = _error(y - latents @ sae.W_dec - sae.b_dec)
    return error + 0.5 * (l0 / 4 - 1) ** 2 + 0.01 * short.sum() / (N * VARIANCE**0.5)


def _gated(sae: SAE, x: Tensor, y: Tensor, dead: Tensor) -> Tensor:
    centred, gate = x - sae.b_dec, _pre_acts(sae, x)
    weight = sae.W_enc * sae.get_parameter("r_mag").exp()
    size = (centred @ weight + sae.get_parameter("b_mag")).relu()
    x_hat = (size * (gate > 0)) @ sae.W_dec + sae.b_dec
    frozen = gate.relu() @ sae.W_dec.detach() + sae.b_dec.detach()
    l1 = (gate.relu() * sae.W_dec.norm(dim=1)).sum() / (N * VARIANCE**0.5)
    return _error(y - x_hat) + _error(y - frozen) + 0.3 * l1


def _standard(widths: tuple[int, ...]) -> Formula:
    def formula(sae: SAE, x: Tensor, y: Tensor, dead: Tensor) -> Tensor:
        latents, norms = _pre_acts(sae, x).relu(), sae.W_dec.norm(dim=1)
        terms = []
        for w in widths:
            l1 = (latents[:, :w] * norms[:w]).sum() / (N * VARIANCE**0.5)
            terms.append(_error(y - latents[:, :w] @ sae.W_dec[:w] - sae.b_dec) + 0.3 * l1)
        return torch.stack(terms).mean()

    return formula


def _transcoder(select: Callable[[Tensor], Tensor]) -> Formula:
    def formula(sae: SAE, x: Tensor, y: Tensor, dead: Tensor) -> Tensor:
        acts = x @ sae.W_enc + sae.b_enc
        residual = y - select(acts) @ sae.W_dec - sae.b_dec
        skip = dict(sae.named_parameters()).get("W_skip")
        if skip is not None:
            residual = residual - x @ skip.T
        return _error(residual) + _aux(residual, acts, sae.W_dec, dead) / 32

    return formula


TOKEN, BATCH = (lambda acts: _by_token(acts, K)), (lambda acts: _by_batch(acts, K))
HOOK = "blocks.0.hook_mlp_out"
CASES = [
    ("topk", {"k": K}, _k_sparse(TOKEN)),
    ("topk", {"k": K, "multi": True}, _multi_topk),
    ("batch_topk", {"k": K}, _k_sparse(BATCH)),
    ("matryoshka", {"k": K, "widths": (8, 20, F)}, _k_sparse(BATCH, (8, 20, F))),
    ("matryoshka", {"k": K, "widths": (8, F), "selection": "topk"}, _k_sparse(TOKEN, (8, F))),
    (
        "matryoshka",
        {"k": K, "widths": (8, 20, F), "aux": "levels", "level_weights": (4.0, 2.0, 2.0)},
        _aux_by_level,
    ),
    ("hierarchical_topk", {"k": K}, _hierarchical((1, 2, 4, 5))),
    ("hierarchical_topk", {"k": K, "ranks": "all"}, _hierarchical((1, 2, 3, 4, 5))),
    (
        "jumprelu",
        {
            "target_l0": 4,
            "bandwidth": 0.4,
            "sparsity_coefficient": 0.5,
            "pre_act_coefficient": 0.01,
            "initial_threshold": 1.5,
        },
        _jumprelu,
    ),
    ("gated", {"l1_coefficient": 0.3}, _gated),
    ("standard", {"l1_coefficient": 0.3}, _standard((F,))),
    ("standard", {"l1_coefficient": 0.3, "widths": (8, 20, F)}, _standard((8, 20, F))),
    ("transcoder", {"k": K, "d_out": 10, "target_hook_name": HOOK}, _transcoder(TOKEN)),
    ("transcoder", {"k": K, "d_out": 10, "skip": True}, _transcoder(TOKEN)),
    ("transcoder", {"k": K, "d_out": 10, "selection": "batch_topk"}, _transcoder(BATCH)),
]


@pytest.mark.parametrize(
    ("name", "fields", "formula"),
    CASES,
    ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(CASES)],
)
def test_loss_and_all_gradients_equal_the_formula(
    name: str,
    fields: dict[str, object],
    formula: Formula,
) -> None:
    sae = build_sae(name, d_in=D, n_latents=F, seed=1, **fields).double()  # type: ignore[arg-type]
    for index, parameter in enumerate(sae.parameters()):
        g = torch.Generator().manual_seed(index)
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=g, dtype=torch.float64)
    g = torch.Generator().manual_seed(2)
    x = torch.randn(N, D, generator=g, dtype=torch.float64)
    y = x if sae.d_out == D else torch.randn(N, sae.d_out, generator=g, dtype=torch.float64)
    dead = torch.arange(F) % 3 == 0
    ours, gradients = sae.gradients(x, Objective(VARIANCE, dead=dead), target=y)
    expected = formula(sae, x, y, dead)
    expected.backward()
    torch.testing.assert_close(ours.total, expected.detach())
    for parameter_name, parameter in sae.named_parameters():
        found = gradients[parameter_name].block(0, len(parameter), like=parameter)
        torch.testing.assert_close(
            found, parameter.grad, msg=lambda m, p=parameter_name: f"{p}: {m}"
        )


def test_chunks_of_tokens_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(200, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name in ("jumprelu", "gated", "standard"):
        sae = build_sae(name, d_in=D, n_latents=F, target_l0=4).double()
        whole, wanted = sae.gradients(x, Objective(VARIANCE))
        monkeypatch.setattr("saetools.sae.archs._dense._CHUNK_BYTES", 1)
        parts, found = sae.gradients(x, Objective(VARIANCE))
        monkeypatch.undo()
        for one, two in zip(whole, parts, strict=True):
            torch.testing.assert_close(one, two)
        for key, gradient in wanted.items():
            torch.testing.assert_close(gradient.whole, found[key].whole)


def test_sampled_prefixes_are_those_of_the_draw() -> None:
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sampled = build_sae(
        "matryoshka", d_in=D, n_latents=F, k=K, prefixes="sampled", n_prefixes=3
    ).double()
    totals = [
        float(sampled.gradients(x, Objective(VARIANCE, draw=draw))[0].total) for draw in (7, 7, 8)
    ]
    assert totals[0] == totals[1] != totals[2]
