"""Activations whose answer is known: what a good SAE should find in them, and how to tell.

Each generator is a function of its seed and gives a small set of rows, whole, with the truth beside
them. `saetools.testbed.synthetic` streams rows of any number with unequal, correlated and
hierarchical firing; how far directions were found is measured in `saetools.testbed.recovery`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.sae import SAE
from saetools.testbed import recovery

__all__ = [
    "Planted",
    "PlantedMLP",
    "Tree",
    "absorption_tree",
    "hole_rate",
    "planted_dictionary",
    "planted_mlp",
    "uneven_sparsity",
]

_NOISE = 0.01


class Planted(NamedTuple):
    """Rows that are sparse sums of directions: x (n, d), directions (m, d), on (n, m)."""

    x: Float[Tensor, "n d"]
    directions: Float[Tensor, "m d"]
    on: Bool[Tensor, "n m"]


class Tree(NamedTuple):
    """Rows of parents and their children: directions are the parents', then the children's."""

    x: Float[Tensor, "n d"]
    directions: Float[Tensor, "m d"]
    parents: Bool[Tensor, "n p"]
    child_on: Bool[Tensor, "n p"]


class PlantedMLP(NamedTuple):
    """What a sparse MLP reads (n, d_in) and writes (n, d_out), and its units' directions."""

    x: Float[Tensor, "n d_in"]
    y: Float[Tensor, "n d_out"]
    reads: Float[Tensor, "m d_in"]
    writes: Float[Tensor, "m d_out"]


def planted_dictionary(
    n: int, *, d: int = 32, n_directions: int = 64, chance: float = 0.05, seed: int = 0
) -> Planted:
    """Each of random unit directions is on with `chance`, with a size of 0.5 to 1.5; small noise.

    A good SAE's decoder rows are the directions.
    """
    g = torch.Generator().manual_seed(seed)
    directions = _unit(torch.randn(n_directions, d, generator=g))
    on = torch.rand(n, n_directions, generator=g) < chance
    return _sum(on, directions, g)


def uneven_sparsity(
    n: int, *, few: int = 2, many: int = 10, d: int = 64, n_directions: int = 128, seed: int = 0
) -> Planted:
    """Half the rows have `few` directions on, half `many`.

    One number of latents for all tokens fits neither half; a budget shared by a batch does.
    """
    g = torch.Generator().manual_seed(seed)
    directions = _unit(torch.randn(n_directions, d, generator=g))
    rank = torch.rand(n, n_directions, generator=g).argsort(1).argsort(1)
    wanted = torch.where(torch.rand(n, 1, generator=g) < 0.5, few, many)
    return _sum(rank < wanted, directions, g)


def absorption_tree(n: int, *, d: int = 20, chance: float = 0.25, seed: int = 0) -> Tree:
    """Four parents with three children each, all of size 1 and orthonormal; no noise.

    A parent is on with `chance`, which makes 5.6 · chance directions a row; given that, with chance
    0.4 exactly one of its children is. An SAE saves latents by a child's latent that stands for its
    parent too (absorption): then the parent's latent has a hole where the child is on. See
    `hole_rate`.
    """
    g = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(d, d, generator=g))[0][:16]
    parents = torch.rand(n, 4, generator=g) < chance
    child_on = parents & (torch.rand(n, 4, generator=g) < 0.4)
    which = torch.randint(0, 3, (n, 4), generator=g)
    children = torch.nn.functional.one_hot(which, 3).bool() & child_on.unsqueeze(-1)
    on = torch.cat([parents, children.flatten(1)], dim=1)
    return Tree(on.float() @ directions, directions, parents, child_on)


def hole_rate(sae: SAE, tree: Tree) -> float:
    """P(the parent's latent is off | a child is on), mean over parents; lower is better, 0 to 1.

    A parent's latent is the decoder row with the greatest cosine to the parent.
    """
    parents = tree.directions[: tree.parents.shape[1]]
    return recovery.hole_rate(sae, tree.x, parents=parents, child_on=tree.child_on)


def planted_mlp(
    n: int,
    *,
    d_in: int = 32,
    d_out: int = 24,
    n_units: int = 32,
    threshold: float = 1.5,
    seed: int = 0,
) -> PlantedMLP:
    """y = Σ ReLU(x · reads − threshold) · writes of Gaussian x; 7 % of the units are on.

    A good transcoder has the reading directions as encoder rows and the writing directions as
    decoder rows.
    """
    g = torch.Generator().manual_seed(seed)
    reads = _unit(torch.randn(n_units, d_in, generator=g))
    writes = _unit(torch.randn(n_units, d_out, generator=g))
    x = torch.randn(n, d_in, generator=g)
    return PlantedMLP(x, (x @ reads.T - threshold).relu() @ writes, reads, writes)


def _sum(on: Tensor, directions: Tensor, g: torch.Generator) -> Planted:
    size = 0.5 + torch.rand(on.shape, generator=g)
    noise = _NOISE * torch.randn(len(on), directions.shape[1], generator=g)
    return Planted((on * size) @ directions + noise, directions, on)


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit
