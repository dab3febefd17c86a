"""What a synthetic source plants: directions, frequencies and sizes, and which concepts are on.

Which concepts are on is drawn from a Gaussian copula: concept j is on where a normal variable
passes the threshold that its frequency asks for, and the variables of one group share a part
`correlation` of their variance, so that concepts of a group fire together more than chance has it
while every one keeps its frequency. Frequencies fall off as a power law of the concept's number.
The first concepts form trees: a parent that is on has, with a chance of 0.4, exactly one of its
children on (mutually exclusive children make absorption profitable: Bussmann et al. 2025,
arXiv:2503.17547, and Chanin et al. 2024, arXiv:2409.14507).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.errors import ConfigError

__all__ = [
    "CHILD_CHANCE",
    "SyntheticConfig",
    "draw_concepts",
    "plant_centre",
    "plant_chances",
    "plant_directions",
    "plant_sizes",
]

CHILD_CHANCE = 0.4  # that a parent which is on has one of its children on

_GROUP = 8  # concepts that share a part of their variance
_MOST_FREQUENT = 0.5


@dataclass(frozen=True)
class SyntheticConfig:
    """What is planted.

    Args:
        d_in: width of the rows.
        n_concepts: directions in all, those of the trees included; orthonormal if they fit into
            `d_in`, else random unit vectors.
        mean_active: concepts of no tree that are on, a row, on average.
        frequency_exponent: concept j is on with a chance that falls as (j + 1) to the minus this; 0
            makes all equal. None is on more often than half the time.
        correlation: part of the variance that the concepts of a group of 8 share, 0 to below 1.
        n_trees: parents; each has its children, and all of them are the first concepts.
        n_children: children of a parent.
        tree_chance: chance that a parent is on.
        noise: standard deviation of the noise in every dimension.
        mean_norm: length of the constant vector that is added to every row.
        magnitude_spread: standard deviation of the logarithm of the concepts' sizes.
        magnitude_jitter: the same from row to row, of one concept.
    """

    d_in: int = 64
    n_concepts: int = 128
    mean_active: float = 6.0
    frequency_exponent: float = 0.5
    correlation: float = 0.0
    n_trees: int = 0
    n_children: int = 3
    tree_chance: float = 0.25
    noise: float = 0.01
    mean_norm: float = 0.0
    magnitude_spread: float = 0.0
    magnitude_jitter: float = 0.25

    def __post_init__(self) -> None:
        if self.n_free < 0:
            raise ConfigError(
                f"{self.n_trees} trees of {self.n_children} children take {self.n_in_trees} "
                f"concepts, but n_concepts is {self.n_concepts}; ask for more, or for fewer trees"
            )
        if not 0 <= self.correlation < 1:
            raise ConfigError(f"correlation is from 0 to below 1, not {self.correlation}")
        if not 0 <= self.tree_chance <= 1:
            raise ConfigError(f"tree_chance is from 0 to 1, not {self.tree_chance}")
        if self.n_free and not 0 < self.mean_active <= self.n_free * _MOST_FREQUENT:
            raise ConfigError(
                f"mean_active is above 0 and at most {self.n_free * _MOST_FREQUENT:g}, half of the "
                f"{self.n_free} concepts of no tree; got {self.mean_active}"
            )

    @property
    def n_in_trees(self) -> int:
        """Concepts that belong to trees: all parents, then the children of each."""
        return self.n_trees * (1 + self.n_children)

    @property
    def n_free(self) -> int:
        """Concepts of no tree."""
        return self.n_concepts - self.n_in_trees


def plant_directions(config: SyntheticConfig, g: torch.Generator) -> Float[Tensor, "m d_in"]:
    """Unit directions, one a concept."""
    d, m = config.d_in, config.n_concepts
    if m <= d:
        square = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))[0]
        orthonormal: Tensor = square[:m].float().contiguous()
        return orthonormal
    unit: Tensor = torch.nn.functional.normalize(torch.randn(m, d, generator=g), dim=1)
    return unit


def plant_chances(config: SyntheticConfig) -> Float[Tensor, " m"]:
    """Share of rows on which each concept is on."""
    parents = torch.full((config.n_trees,), config.tree_chance)
    a_child = config.tree_chance * CHILD_CHANCE / max(config.n_children, 1)
    children = torch.full((config.n_trees * config.n_children,), a_child)
    falling = torch.arange(1, config.n_free + 1).double() ** -config.frequency_exponent
    low, high = 0.0, 1e12  # of the factor that makes them add up, most frequent ones being cut
    for _ in range(200):
        factor = (low * high) ** 0.5 if low > 0 else high / 2
        over = float((factor * falling).clamp_max(_MOST_FREQUENT).sum()) > config.mean_active
        low, high = (low, factor) if over else (factor, high)
    return torch.cat([parents, children, (high * falling).clamp_max(_MOST_FREQUENT).float()])


def plant_centre(config: SyntheticConfig, g: torch.Generator) -> Float[Tensor, " d_in"]:
    """The constant part of every row."""
    vector = torch.randn(config.d_in, generator=g)
    centre: Tensor = vector * (config.mean_norm / vector.norm())
    return centre


def plant_sizes(config: SyntheticConfig, g: torch.Generator) -> Float[Tensor, " m"]:
    """Median size of each concept where it is on."""
    medians: Tensor = (config.magnitude_spread * torch.randn(config.n_concepts, generator=g)).exp()
    return medians


def draw_concepts(
    config: SyntheticConfig, chances: Float[Tensor, " m"], n: int, g: torch.Generator
) -> Bool[Tensor, "n m"]:
    """Which concepts are on at each of `n` rows."""
    free = _free_on(config, chances[config.n_in_trees :], n, g)
    return torch.cat([_trees_on(config, n, g), free], dim=1)


def _trees_on(config: SyntheticConfig, n: int, g: torch.Generator) -> Bool[Tensor, "n t"]:
    """Parents, then the children of the first parent, of the second, ..."""
    p, c = config.n_trees, config.n_children
    parents = torch.rand(n, p, generator=g) < config.tree_chance
    if c == 0:
        return parents
    with_child = parents & (torch.rand(n, p, generator=g) < CHILD_CHANCE)
    which = torch.randint(0, c, (n, p), generator=g)
    children = torch.nn.functional.one_hot(which, c).bool() & with_child.unsqueeze(-1)
    return torch.cat([parents, children.flatten(1)], dim=1)


def _free_on(
    config: SyntheticConfig, chances: Tensor, n: int, g: torch.Generator
) -> Bool[Tensor, "n f"]:
    """Concepts of no tree: each passes its own threshold of a normal variable."""
    m = len(chances)
    own = torch.randn(n, m, generator=g)
    shared = torch.randn(n, -(-m // _GROUP), generator=g).repeat_interleave(_GROUP, dim=1)[:, :m]
    normal = config.correlation**0.5 * shared + (1 - config.correlation) ** 0.5 * own
    on: Tensor = normal > torch.special.ndtri(1 - chances.double()).float()
    return on
